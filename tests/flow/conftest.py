"""A small world's log and what decides on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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
