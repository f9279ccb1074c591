"""Slots say how long the user would stay where the policy asks, and are as they were where it does not."""

import msgspec
import numpy as np
import pytest
from support.shards import Bench, LogBuilder, bodies, run
from support.small_models import random_model

from models.domain.decision import Decision
from models.domain.events import Click, PolicyChange
from models.domain.policy import Policy
from models.scorer import artifact
from models.scorer.dwell import DwellHead
from models.scorer.popularity import PopularityScorer
from models.scorer.serving import open_scorer


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    random_model(folder, [f"a{n}" for n in range(6)])
    stored, draw = artifact.load(folder), np.random.default_rng(0)
    head = DwellHead(*(draw.standard_normal(n).astype(np.float32) for n in (16, 7)), 0.2)
    artifact.save(folder, stored.tensors | head.tensors(), stored.manifest)
    return open_scorer(folder)


def log(asked):
    builder = LogBuilder()
    builder.ads(6, category="shoes")
    builder.add(PolicyChange, policy=Policy(expected_dwell=asked))
    for n in range(8):
        builder.request(f"u{n % 3}")
        builder.add(Click, user_id=f"u{n % 3}", ad_id=f"a{n % 6}")
    return builder.records


def decisions(scorer, asked, sizes=(10**9,)):
    return bodies(run(Bench(scorer).shard(), log(asked), sizes), Decision)


def test_every_slot_says_how_long_the_user_would_stay(scorer):
    slots = [slot for decision in decisions(scorer, True) for slot in decision.ads]
    assert len(slots) > 20
    assert all(slot.expected_dwell_ms > 0 for slot in slots)
    assert len({slot.expected_dwell_ms for slot in slots}) > 10


def test_asking_ranks_nothing_and_not_asking_leaves_the_bytes_alone(scorer):
    plain, asked = decisions(scorer, False), decisions(scorer, True)
    assert b"expected_dwell_ms" not in msgspec.json.encode(plain)
    assert b"expected_dwell_ms" in msgspec.json.encode(asked)
    replace = msgspec.structs.replace
    bare = [
        replace(one, ads=tuple(replace(slot, expected_dwell_ms=msgspec.UNSET) for slot in one.ads))
        for one in asked
    ]
    assert msgspec.json.encode(bare) == msgspec.json.encode(plain)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_what_is_told_does_not_depend_on_the_batch(scorer, size):
    whole, parts = decisions(scorer, True), decisions(scorer, True, (size,))
    assert msgspec.json.encode(whole) == msgspec.json.encode(parts)


def test_a_model_that_does_not_tell_leaves_it_out():
    assert b"expected_dwell_ms" not in msgspec.json.encode(decisions(PopularityScorer(), True))


@pytest.mark.parametrize("cut", [3, 8, 12])
def test_a_snapshot_of_a_shard_that_tells_resumes_as_if_nothing_had_happened(scorer, cut):
    records, bench = log(True), Bench(scorer)
    whole, first, resumed = (bench.shard() for _ in range(3))
    expected = run(whole, records)
    before = run(first, records[:cut])
    resumed.load(first.dump())
    assert before + run(resumed, records[cut:]) == expected
    assert resumed.dump() == whole.dump()
