"""Views that snapshots name are kept as long as a snapshot may be resumed from, and no longer."""

from __future__ import annotations

from functools import partial

import pytest
from support.shards import Bench, LogBuilder, run

from flows.service import StoredResources
from models.decide.kept_views import KeptViews
from models.decide.shard import Shard
from models.domain import events
from models.domain.errors import ArtifactError

LAST = 4


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("models.decide.views.KeptViews", partial(KeptViews, snapshots=LAST))
    return Bench()


def taught(shard: Shard, log: LogBuilder, versions: range) -> list[bytes]:
    """Give a shard a weight of each version in turn; return its snapshot after each."""
    snapshots = []
    for version in versions:
        start = len(log.records)
        log.add(events.Adjustments, version=version, ads={"a": (version / 1000, 0.1)})
        run(shard, log.records[start:])
        snapshots.append(shard.dump())
    return snapshots


def test_a_learner_that_changes_weights_for_ever_does_not_fill_the_disk(few, log):
    shard = few.shard()
    taught(shard, log, range(1, 50))
    assert len(few.resources.blobs) <= 2 * LAST + 1, "views and weights of the last snapshots, one catalogue"


def test_each_of_the_last_snapshots_can_be_resumed_from(few, log):
    snapshots = taught(few.shard(), log, range(1, 50))
    for back, snapshot in enumerate(reversed(snapshots[-LAST:])):
        fresh = Bench()
        fresh.resources.blobs = few.resources.blobs
        shard = fresh.shard()
        shard.load(snapshot)
        assert shard.view.weights.ads["a"][0] == (49 - back) / 1000


def test_what_a_shard_that_lags_behind_needs_stays(few):
    ahead, behind = few.shard(0), few.shard(1)
    (old,) = taught(behind, LogBuilder(1), range(1, 2))
    taught(ahead, LogBuilder(0), range(1, 50))
    few.shard(1).load(old)


def test_equal_snapshots_one_after_another_count_once():
    dropped: list[str] = []
    kept = KeptViews(dropped.append, snapshots=2)
    for name in ("a", "a", "a", "b", "c"):
        kept.name("shard", (name, "common"))
    assert dropped == ["a"]


def test_what_one_process_drops_another_one_still_has(tmp_path):
    one, other = StoredResources(tmp_path, 1), StoredResources(tmp_path, 1)
    name = one.keep(b"weights")
    assert other.kept(name) == b"weights"
    assert other.keep(b"weights") == name
    one.drop(name)
    assert one.kept(name) == b"weights"
    other.drop(name)
    with pytest.raises(ArtifactError, match="Fix: "):
        one.kept(name)
