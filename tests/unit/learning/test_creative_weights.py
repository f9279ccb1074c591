"""Weights of creatives: learned beside their ad's, carried by adjustments, laid out for the auction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.outcomes import outcome

from models.domain.catalogue import Ad, Catalogue, Creative
from models.domain.decision import Outcome, Parts
from models.domain.errors import BadRecord
from models.domain.events import Adjustments
from models.learning.compiled import compile_weights
from models.learning.creative_weights import choices_of, creative_key, creative_lifts, presented_of
from models.learning.learner import Learner
from models.learning.priors import DEFAULT_PRIORS
from models.learning.weights import WeightTable

PRIOR = DEFAULT_PRIORS.creative


def ad_with(*reviews: str, ad_id: str = "a") -> Ad:
    creatives = (Creative(creative_id=f"x{n}", review=review) for n, review in enumerate(reviews))
    return Ad(ad_id=ad_id, campaign_id="c", creatives=tuple(creatives))


def weighted(*ads: Ad, **weights: tuple[float, float]):
    table = WeightTable().apply(
        Adjustments(id="v", event_time=1, version=1, ads={"a": (1.0, 0.1)}, creatives=weights)
    )
    return compile_weights(table.table, Catalogue().upsert(ads))


def labels(rates: dict[str, float], n: int = 3000) -> list[Outcome]:
    """Clicks and no-clicks of one ad's creatives in turn, 20 ms apart."""
    rng, told = np.random.default_rng(0), []
    for i in range(n):
        shown = list(rates)[i % len(rates)]
        kind = "click" if rng.random() < rates[shown] else "no_click"
        for step in ("impression", kind):
            told.append(outcome(step, i / 50, decision_id=f"d{i}", creative_id=shown, parts=Parts(base=-1.5)))
    return [*told, outcome("dwell", n / 50 + 90, ad_id="other", user_id="v")]


def learned(told: list[Outcome]) -> WeightTable:
    table = WeightTable()
    for record in Learner().learn(told).adjustments:
        table = table.apply(record).table
    return table


def test_the_better_creative_of_an_ad_gets_the_larger_weight():
    table = learned(labels({"good": 0.3, "bad": 0.1}))
    good, bad = table.creatives["a|good"], table.creatives["a|bad"]
    assert good[0] > 0.25 > -0.25 > bad[0]
    assert max(good[1], bad[1]) < PRIOR


def test_what_creatives_have_in_common_is_learned_of_their_ad():
    table = learned(labels({"x": 0.4, "y": 0.4}))
    assert table.ads["a"][0] > 0.1
    assert table.creatives["a|x"][0] == pytest.approx(table.creatives["a|y"][0], abs=0.2)


def test_an_ad_without_creatives_learns_none_and_its_records_say_none():
    records = Learner().learn(labels({"": 0.3})).adjustments
    assert records and not any(record.creatives for record in records)


def test_a_creatives_part_is_not_learned_twice():
    rate = 1 / (1 + np.exp(1.0))
    parts = Parts(base=-1.5, creative=0.5)
    told = [replace(o, parts=parts) for o in labels({"x": rate, "y": rate})]
    table = learned(told)
    total = table.bias[0] + table.ads["a"][0] + table.campaigns["c"][0] + table.segment_categories["|"][0]
    assert -1.5 + total + table.creatives["a|x"][0] == pytest.approx(-1.0, abs=0.3)


def test_a_creative_is_named_by_its_ad_and_its_own_id():
    assert creative_key("a|b", "x|y") == "a|b|x/y"


def test_only_approved_creatives_are_choices_and_unknown_ones_have_the_prior():
    shown = presented_of(ad_with("approved", "pending", "rejected", "approved"))
    found = choices_of(shown, {"a|x3": (0.5, 0.02)}, PRIOR)
    assert [creative.creative_id for creative in found.creatives] == ["x0", "x3"]
    assert found.mean.tolist() == [[0.0, 0.5]] and found.variance.tolist() == [[PRIOR, 0.02]]
    assert found.known and not choices_of(presented_of(ad_with("approved")), {}, PRIOR).known


def test_the_auction_takes_an_ad_at_its_best_approved_creative():
    compiled = weighted(
        ad_with("approved", "approved", "rejected"),
        **{"a|x0": (-0.2, 0.1), "a|x1": (0.3, 0.1), "a|x2": (9.0, 0.1)},
    )
    assert compiled.parts(np.zeros((1, 1), np.int32), np.zeros(1, np.int64)).ad[0, 0] == pytest.approx(1.3)
    assert compiled.situation_bias("")[0] == pytest.approx(1.3)
    assert compiled.ad[0, 0] == 1.0


def test_the_auction_takes_an_ad_at_the_creative_that_is_best_in_the_users_segment():
    table = WeightTable().apply(
        Adjustments(
            id="v", event_time=1, version=1,
            creatives={"a|x0": (0.3, 0.1), "a|x1": (0.1, 0.1)},
            segment_creatives={"s|a|x1": (0.5, 0.1), "s|a|x2": (9.0, 0.1), "t|a|x0": (-0.1, 0.1)},
        )
    ).table  # fmt: skip
    compiled = compile_weights(table, Catalogue().upsert([ad_with("approved", "approved", "rejected")]))
    segments = ["s", "t", "another"]
    parts = compiled.parts(np.zeros((3, 1), np.int32), compiled.segment_rows(segments))
    assert parts.ad[:, 0].tolist() == pytest.approx([0.6, 0.2, 0.3])
    assert [compiled.situation_bias(segment)[0] for segment in segments] == pytest.approx([0.6, 0.2, 0.3])


def test_a_choice_counts_what_is_known_of_a_creative_in_the_segment():
    known = {"s|a|x1": (0.5, 0.02)}
    general = choices_of(presented_of(ad_with("approved", "approved")), {"a|x1": (0.25, 0.03)}, PRIOR)
    there, elsewhere = (general.within(segment, known, 0.05) for segment in ("s", "t"))
    assert there.mean.tolist() == [[0.0, 0.75]] and elsewhere.mean.tolist() == [[0.0, 0.25]]
    assert there.variance[0].tolist() == pytest.approx([PRIOR + 0.05, 0.05])
    assert elsewhere.variance[0].tolist() == pytest.approx([PRIOR + 0.05, 0.08])


def test_a_catalogue_without_creatives_shares_its_arrays_and_computes_nothing():
    compiled = weighted(Ad(ad_id="a", campaign_id="c"))
    assert compiled.lifts == {} and compiled.ad_level is compiled.ad


def test_weights_of_creatives_that_the_catalogue_does_not_hold_are_kept_aside():
    compiled = weighted(ad_with("approved"), **{"gone|x0": (1.0, 0.1), "a|gone": (1.0, 0.1)})
    assert compiled.lifts == {0: 0.0}


@given(st.dictionaries(st.sampled_from([f"a{a}|x{x}" for a in range(4) for x in range(4)]),
                       st.tuples(st.floats(-3, 3), st.floats(0, 1))), st.data())  # fmt: skip
def test_lifts_of_changed_keys_are_those_of_all_keys(weights, data):
    catalogue = Catalogue().upsert(
        [ad_with(*("approved", "rejected", "approved")[:n], ad_id=f"a{n}") for n in range(4)]
    )
    some = data.draw(st.lists(st.sampled_from(sorted(weights)))) if weights else []
    whole = creative_lifts(weights, weights, catalogue)
    assert creative_lifts(some, weights, catalogue).items() <= whole.items()
    assert all(lift == 0.0 or lift <= max(mean for mean, _ in weights.values()) for lift in whole.values())


def test_a_reset_forgets_creatives_too():
    table = WeightTable().apply(Adjustments(id="1", event_time=1, version=1, creatives={"a|x": (1.0, 0.1)}))
    assert table.table.apply(Adjustments(id="2", event_time=2, version=2, reset=True)).table.creatives == {}


def test_tables_with_creatives_survive_a_snapshot():
    record = Adjustments(id="1", event_time=1, version=1, creatives={"a|x": (1.0, 0.1)})
    table = WeightTable().apply(record).table
    assert WeightTable.from_bytes(table.to_bytes()).creatives == {"a|x": (1.0, 0.1)}


def test_a_creatives_weight_that_is_no_number_is_refused():
    record = Adjustments(id="1", event_time=1, version=1, creatives={"a|x": (float("nan"), 0.1)})
    with pytest.raises(BadRecord, match=r"a\|x"):
        WeightTable().apply(record)
