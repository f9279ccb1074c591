"""A small world's log and what decides on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import impulse
from support.small_models import random_model

from connectors.codec import EventCodec
from flows.service import Service
from flows.settings import Settings
from models.domain.events import AdUpsert
from models.domain.log import LogRecord
from models.evaluation.generate import generate_log
from models.evaluation.world_config import WorldConfig, resized


@pytest.fixture(scope="session")
def world_log() -> list[LogRecord]:
    config = resized(WorldConfig(), users=40, ads=40, seed=3)
    return list(generate_log(config, 8, partitions=4))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, world_log: list[LogRecord]) -> Path:
    """Return the folder of a Transformer with random weights that knows the world's ads."""
    folder = tmp_path_factory.mktemp("model")
    events = (EventCodec().decode(record) for record in world_log)
    random_model(folder, {ad.ad_id for event in events if isinstance(event, AdUpsert) for ad in event.ads})
    return folder


@pytest.fixture
def service(tmp_path: Path) -> Callable[..., Service]:
    """Makes services as a process at its start would."""

    def new_service(**settings: Any) -> Service:
        return Service.of(Settings(artifacts=tmp_path / "artifacts", **settings))

    return new_service


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a log that Impulse decided at random, with the decisions and outcomes of its replay."""
    folder = tmp_path_factory.mktemp("own")
    policy = folder / "policy.toml"
    policy.write_text("slots = 3\nno_repeat_s = 5\n[exploration]\nrandomized_share = 1.0\n")
    world_file = folder / "world.toml"
    world_file.write_text("[traffic]\nrequests_per_s = 15\nviews_per_s = 5\n")
    log, made, told = folder / "log.jsonl", folder / "decisions.jsonl", folder / "outcomes.jsonl"
    world = ("--world", world_file, "--users", 60, "--ads", 25, "--seconds", 80, "--seed", 2)
    impulse("generate", "--own", "--policy", policy, *world, "--out", log)
    figures = impulse("replay", log, "--decisions", made, "--outcomes", told)
    assert figures["outcomes"] > 0
    return {"--log": log, "--decisions": made, "--outcomes": told}
