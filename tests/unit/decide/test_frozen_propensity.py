"""The randomised bucket logs what the frozen model would have done, by the law that was drawn from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shards import Bench, LogBuilder, bodies, run

from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Exploration, Policy

ADS = tuple(Ad(ad_id=f"a{n}", campaign_id=f"c{n}", category=f"k{n}") for n in range(4))


def decided(
    share: float, slots: int = 2, requests: int = 200, **weights: tuple[float, float]
) -> list[Decision]:
    log = LogBuilder()
    exploration = Exploration(randomized_share=share)
    log.add(events.PolicyChange, policy=Policy(caps=(), no_repeat_s=0, slots=slots, exploration=exploration))
    log.add(events.AdUpsert, ads=ADS)
    log.add(events.Adjustments, version=1, ads=weights or {"a0": (1.0, 0.1)})
    for n in range(requests):
        log.request(f"u{n}")
    return bodies(run(Bench().shard(), log.records), Decision)


def test_outside_the_bucket_nothing_is_told():
    assert {slot.frozen_propensity for made in decided(0.0, requests=20) for slot in made.ads} == {0.0}


def test_where_nothing_was_learned_both_models_choose_alike():
    for made in decided(1.0, a0=(0.0, 0.1)):
        for slot in made.ads:
            assert slot.frozen_propensity == pytest.approx(slot.propensity, rel=1e-6)


def test_a_frozen_model_that_knows_no_difference_gives_every_ad_left_the_same_chance():
    for made in decided(1.0, slots=3):
        chances = [slot.frozen_propensity for slot in made.ads]
        assert chances == pytest.approx([1 / 4, 1 / 3, 1 / 2], rel=1e-6)


def test_the_weights_average_to_one():
    slots = [made.ads[0] for made in decided(1.0, slots=1, requests=3000)]
    weights = np.array([slot.frozen_propensity / slot.propensity for slot in slots])
    assert weights.mean() == pytest.approx(1.0, abs=0.06)
    assert Counter(slot.ad_id for slot in slots)["a0"] > 0.5 * len(slots), (
        "the adjusted model has its favourite"
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_the_chances_of_all_ads_for_a_slot_sum_to_one(means):
    weights = {f"a{n}": (mean, 0.1) for n, mean in enumerate(means)}
    seen = {s.ad_id: s.frozen_propensity for made in decided(1.0, 1, 60, **weights) for s in made.ads[:1]}
    assert sum(seen.values()) <= 1.0 + 1e-9
    assert len(seen) < 4 or sum(seen.values()) == pytest.approx(1.0)
