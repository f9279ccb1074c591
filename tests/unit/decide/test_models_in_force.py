"""Which models a process decides with, which it refuses, and how many it holds in memory."""

from __future__ import annotations

import gc
from pathlib import Path
from weakref import WeakSet

import pytest
from support.shards import Bench, LogBuilder, bodies, run
from support.small_models import random_model

from flows.service import Service, StoredResources, publish_model
from flows.settings import Settings
from models.decide.views import MODELS, ViewBuilder
from models.domain import events
from models.domain.decision import Decision
from models.domain.errors import ArtifactError
from models.domain.log import Rejected
from models.scorer.interface import Scorer
from models.scorer.popularity import PopularityScorer
from models.scorer.serving import open_scorer

ADS = ("a0", "a1", "a2")


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """Return the folder of a model that reads more history than is kept by default."""
    random_model(tmp_path / "long", ADS, blocks=30)
    return tmp_path / "long"


def switched(bench: Bench, log: LogBuilder, *scorers: Scorer) -> None:
    for scorer in scorers:
        bench.resources.scorers[scorer.model_hash] = scorer
        log.add(events.ModelSwitch, model_hash=scorer.model_hash)
        log.request()


def test_a_switch_to_a_model_that_reads_more_history_than_is_kept_is_refused_and_the_old_one_stays(long):
    bench, log = Bench(), LogBuilder()
    log.ads(3)
    switched(bench, log, open_scorer(long, hot_users=4))
    said = run(bench.shard(), log.records)
    (refused,) = bodies(said, Rejected)
    assert refused.error.reason == "bad_model"
    assert "bounds.history_length" in str(refused.error)
    (decision,) = bodies(said, Decision)
    assert decision.model_hash == bench.views.first().scorer.model_hash
    assert len(decision.ads) == 3


def test_a_start_with_a_model_that_reads_more_history_than_is_kept_is_refused_with_the_fix(long, tmp_path):
    settings = Settings(model=long, artifacts=tmp_path / "artifacts")
    with pytest.raises(ArtifactError, match=r"got 160, expected 219 or more.*bounds.history_length.* to 219"):
        Service.of(settings)
    kept = settings.bounds.model_copy(update={"history_length": 219})
    assert Service.of(settings.model_copy(update={"bounds": kept})).decider.history_length == 219


def test_a_model_that_reads_more_history_than_is_kept_is_not_published(long, tmp_path):
    with pytest.raises(ArtifactError, match="set bounds"):
        publish_model(long, tmp_path / "artifacts", 160)
    assert not (tmp_path / "artifacts").exists()
    publish_model(long, tmp_path / "artifacts", 219)


def test_a_snapshot_under_a_model_that_reads_more_history_than_is_kept_is_refused(long):
    bench, log = Bench(), LogBuilder()
    bench.views = ViewBuilder(PopularityScorer(), bench.resources, 500)
    switched(bench, log, open_scorer(long, hot_users=4))
    name = bench.views.dump(bench.views.apply(bench.views.first(), log.records[0].event).view, "shard")
    with pytest.raises(ArtifactError, match="set bounds"):
        ViewBuilder(PopularityScorer(), bench.resources, 160).load(name, "shard")


def test_models_that_were_switched_away_from_leave_the_memory(tmp_path):
    resources, alive = StoredResources(tmp_path, 4), WeakSet[Scorer]()
    views = ViewBuilder(PopularityScorer(), resources, 160)
    shards = [views.first()] * 3
    for day in range(6):
        random_model(tmp_path / "model", ADS, seed=day)
        model_hash = publish_model(tmp_path / "model", tmp_path, 160)
        for partition in range(3):
            switch = events.ModelSwitch(id=f"{day}-{partition}", event_time=day, model_hash=model_hash)
            shards[partition] = views.apply(shards[partition], switch).view
            views.compiled(shards[partition])
            views.load(views.dump(shards[partition], str(partition)), str(partition))
            alive.add(shards[partition].scorer)
        assert shards[0] is shards[1] is shards[2], "shards share one view, and so one model"
        gc.collect()
        assert len(alive) <= MODELS


def test_a_model_that_a_shard_still_decides_with_is_opened_once(tmp_path):
    random_model(tmp_path / "model", ADS)
    model_hash = publish_model(tmp_path / "model", tmp_path, 160)
    resources = StoredResources(tmp_path, 4)
    held = resources.scorer(model_hash)
    assert resources.scorer(model_hash) is held


def test_a_model_under_the_name_of_another_is_refused(tmp_path):
    random_model(tmp_path / "models" / ("0" * 32), ADS)
    with pytest.raises(ArtifactError, match="under its own hash"):
        StoredResources(tmp_path, 4).scorer("0" * 32)


@pytest.mark.parametrize("name", ["../../model", "/etc", ".", "", "0" * 31])
def test_a_name_that_is_no_hash_opens_nothing(tmp_path, name):
    random_model(tmp_path / "model", ADS)
    with pytest.raises(ArtifactError, match="32 hexadecimal digits"):
        StoredResources(tmp_path / "artifacts" / "here", 4).scorer(name)


def test_publishing_again_repairs_a_copy_that_was_cut_short(tmp_path):
    random_model(tmp_path / "model", ADS)
    model_hash = publish_model(tmp_path / "model", tmp_path, 160)
    (tmp_path / "models" / model_hash / "model.safetensors").unlink()
    publish_model(tmp_path / "model", tmp_path, 160)
    assert StoredResources(tmp_path, 4).scorer(model_hash).model_hash == model_hash
