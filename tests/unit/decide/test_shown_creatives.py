"""Which creative a decision shows: approved, drawn by a law whose propensity is exact, explained, learned."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shards import Bench, LogBuilder, bodies, run

from models.decide.creatives import choose_creative
from models.domain import events
from models.domain.catalogue import Ad, Creative
from models.domain.decision import Decision, Outcome, Presentation
from models.domain.ids import key64
from models.domain.log import Rejected
from models.domain.policy import Exploration, Policy
from models.domain.templates import TEMPLATES
from models.learning.creative_weights import choices_of, presented_of
from models.learning.learner import Learner

EXPLORING = Exploration(thompson_nu=0.25, randomized_share=0.0)
GREEDY = Exploration(thompson_nu=0.0, randomized_share=0.0)


def ad_with(*reviews: str, **fields: object) -> Ad:
    creatives = tuple(Creative(creative_id=f"x{n}", review=review) for n, review in enumerate(reviews))
    return Ad(**{"ad_id": "a", "campaign_id": "c", "creatives": creatives, **fields})


def chosen(
    means: list[float], exploration: Exploration = EXPLORING, *, randomized: bool = False, n: int = 4000
):
    """Return share and mean propensity of each creative over many decisions."""  # fmt: skip
    weights = {f"a|x{i}": (mean, 0.5) for i, mean in enumerate(means)}
    choices = choices_of(presented_of(ad_with(*["approved"] * len(means))), weights, 0.1)
    picks = [choose_creative(choices, key64(f"d{i}"), exploration, randomized=randomized) for i in range(n)]
    counts = Counter(pick.creative.creative_id for pick in picks)
    said = {pick.creative.creative_id: pick.propensity for pick in picks}
    return {name: count / n for name, count in counts.items()}, said


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-0.6, 0.6), min_size=2, max_size=4), st.booleans())
def test_propensities_are_the_shares_in_which_creatives_are_shown(means, randomized):
    shares, said = chosen(means, randomized=randomized)
    for name, propensity in said.items():
        assert shares[name] == pytest.approx(propensity, abs=4.5 * np.sqrt(0.25 / 4000))


def test_the_better_creative_is_shown_more_and_the_other_still_explored():
    shares, said = chosen([0.3, 0.0])
    assert said["x0"] == pytest.approx(0.6179, abs=1e-3), "P(N(.3, 1) > 0) = Phi(.3)"
    assert shares["x0"] == pytest.approx(0.618, abs=0.02)


def test_the_randomised_bucket_gives_every_creative_its_uniform_share_at_least():
    _, said = chosen([3.0, 0.0], randomized=True)
    assert said["x1"] >= EXPLORING.uniform_mix / 2


def test_without_exploration_the_best_mean_wins_for_certain():
    assert chosen([-0.1, 0.1], GREEDY, n=50) == ({"x1": 1.0}, {"x1": 1.0})


def test_creatives_that_nothing_is_known_of_have_equal_chances_even_without_exploration():
    choices = choices_of(presented_of(ad_with("approved", "approved", "approved")), {}, 0.1)
    picks = [choose_creative(choices, key64(f"d{i}"), GREEDY, randomized=False) for i in range(3000)]
    assert {round(pick.propensity, 12) for pick in picks} == {round(1 / 3, 12)}
    assert min(Counter(p.creative.creative_id for p in picks).values()) > 900


@given(st.integers(0, 2**64 - 1))
def test_the_same_decision_shows_the_same_creative_in_any_order_of_the_catalogue(seed):
    ad, weights = ad_with("approved", "approved", "approved"), {"a|x2": (0.1, 0.2)}
    turned = Ad(ad_id="a", campaign_id="c", creatives=ad.creatives[::-1])
    one, two = (
        choose_creative(choices_of(presented_of(each), weights, 0.1), seed, EXPLORING, randomized=False)
        for each in (ad, turned)
    )
    assert one.creative == two.creative and one.propensity == pytest.approx(two.propensity)


def test_the_only_approved_creative_is_certain():
    choices = choices_of(presented_of(ad_with("pending", "approved")), {"a|x1": (0.2, 0.1)}, 0.1)
    shown = choose_creative(choices, 1, EXPLORING, randomized=True)
    assert (shown.creative.creative_id, shown.propensity, shown.mean) == ("x1", 1.0, 0.2)


def decided(ads: tuple[Ad, ...], **weights: tuple[float, float]) -> list[Decision]:
    log = LogBuilder()
    log.add(events.AdUpsert, ads=ads)
    log.add(events.Adjustments, version=1, ads={"a": (0.5, 0.01)}, creatives=weights)
    for n in range(40):
        log.request(f"u{n}")
    return bodies(run(Bench().shard(), log.records), Decision)


def test_a_slot_is_explained_down_to_its_creative():
    for decision in decided((ad_with("approved", "approved"),), **{"a|x0": (0.4, 0.1), "a|x1": (0.2, 0.1)}):
        (slot,) = decision.ads
        p = slot.parts
        assert (p.ad, p.creative) == (0.5, {"x0": 0.4, "x1": 0.2}[slot.creative_id])
        total = p.base + p.bias + p.ad + p.campaign + p.segment_category + p.user_category + p.creative
        assert slot.pctr == pytest.approx(1 / (1 + np.exp(-total)), rel=1e-12)
        assert 0.0 < slot.creative_propensity < 1.0


def test_a_slot_without_creatives_says_nothing_of_them():
    for decision in decided((Ad(ad_id="a", campaign_id="c"),)):
        (slot,) = decision.ads
        assert (slot.creative_id, slot.creative_propensity, slot.generated) == ("", 1.0, False)
        assert slot.parts.creative == 0.0


def test_only_approved_creatives_are_shown_and_generated_ones_are_labelled():
    creatives = (
        Creative(creative_id="own"),
        Creative(creative_id="made", generated=True, review="approved"),
        Creative(creative_id="waiting", generated=True, review="pending"),
    )
    made = decided((Ad(ad_id="a", campaign_id="c", creatives=creatives),), **{"a|waiting": (5.0, 0.1)})
    assert {(d.ads[0].creative_id, d.ads[0].generated) for d in made} == {("own", False), ("made", True)}


def test_a_generated_creative_of_which_no_review_is_told_waits_for_one():
    untold = Creative(creative_id="made", generated=True)
    alone = decided((Ad(ad_id="a", campaign_id="c", creatives=(untold,)),))
    beside = decided((Ad(ad_id="a", campaign_id="c", creatives=(untold, Creative(creative_id="own"))),))
    assert {len(d.ads) for d in alone} == {0}
    assert {d.filtered["creative_review"] for d in alone} == {1}
    assert {d.ads[0].creative_id for d in beside} == {"own"}


def test_a_decision_carries_the_creatives_texts_with_their_slots_filled():
    template = Creative(creative_id="x", headline="New: {title}", image_url="https://cdn/{ad_id}.png")
    for decision in decided((Ad(ad_id="a", campaign_id="c", title="Shoes", creatives=(template,)),)):
        (slot,) = decision.ads
        assert slot.presentation == Presentation(headline="New: Shoes", image_url="https://cdn/a.png")


def test_a_slot_without_a_creative_has_no_presentation():
    (slot,) = decided((Ad(ad_id="a", campaign_id="c", title="Shoes"),))[0].ads
    assert slot.presentation is msgspec.UNSET
    assert b"presentation" not in msgspec.json.encode(slot)


def test_an_ad_sent_again_with_another_title_is_shown_with_it():
    log = LogBuilder()
    template = (Creative(creative_id="x", headline="{title}"),)
    for title in ("Shoes", "Boots"):
        log.add(events.AdUpsert, ads=(Ad(ad_id="a", campaign_id="c", title=title, creatives=template),))
        log.request(f"u-{title}")
    made = bodies(run(Bench().shard(), log.records), Decision)
    assert [decision.ads[0].presentation.headline for decision in made] == ["Shoes", "Boots"]


def test_an_ad_whose_creative_names_an_unknown_slot_is_a_dead_letter_and_what_was_in_force_stays():
    log = LogBuilder()
    for headline in ("{title}", "{titel}"):
        creatives = (Creative(creative_id="x", headline=headline),)
        log.add(events.AdUpsert, ads=(Ad(ad_id="a", campaign_id="c", title="Shoes", creatives=creatives),))
    log.request()
    emitted = run(Bench().shard(), log.records)
    (refused,) = bodies(emitted, Rejected)
    assert refused.error.reason == "bad_ad"
    assert "unknown slot {titel} in its headline" in str(refused.error)
    assert bodies(emitted, Decision)[0].ads[0].presentation.headline == "Shoes"


def test_an_ad_with_nothing_approved_is_not_shown():
    assert all(decision.ads == () for decision in decided((ad_with("pending", "rejected"),)))


def test_an_ad_competes_at_its_best_creative():
    rival = Ad(ad_id="b", campaign_id="d")
    made = decided((ad_with("approved", "approved"), rival), **{"a|x1": (2.0, 0.001), "a|x0": (0.0, 0.001)})
    assert {(d.ads[0].ad_id, d.ads[0].creative_id) for d in made} == {("a", "x1")}


class Loop:
    """Users answer by the creative that they are shown, and the learner answers into the log."""

    def __init__(self, rates: dict[str, float], *reviews: str, seed: int = 0) -> None:
        self.shard, self.learner, self.log = Bench().shard(), Learner(), LogBuilder()
        self.rates, self.rng = rates, np.random.default_rng(seed)
        exploration = Exploration(randomized_share=0.05)
        self.log.add(events.PolicyChange, policy=Policy(caps=(), no_repeat_s=0, exploration=exploration))
        self.review(*reviews)

    def review(self, *reviews: str) -> None:
        self.log.add(events.AdUpsert, ads=(ad_with(*reviews),))
        self.process(len(self.log.records) - 1)

    def process(self, start: int) -> list:
        return self.shard.process(self.log.records[start:])

    def turn(self, users: int = 10) -> list[Decision]:
        start = len(self.log.records)
        for _ in range(users):
            self.request()
        made = bodies(self.process(start), Decision)
        start = len(self.log.records)
        for decision in made:
            self.answer(decision)
        told = self.learner.learn(bodies(self.process(start), Outcome)).adjustments
        start = len(self.log.records)
        for record in told:
            fields = {
                name: getattr(record, name) for name in record.__struct_fields__ if name != "event_time"
            }
            self.log.add(events.Adjustments, after_s=0.0, **fields)
        self.process(start)
        return made

    def request(self) -> None:
        self.log.request(f"u{len(self.log.records)}")

    def rate(self, decision: Decision) -> float:
        return self.rates[decision.ads[0].creative_id]

    def answer(self, decision: Decision) -> None:
        about = {"user_id": decision.user_id, "ad_id": "a", "decision_id": decision.decision_id}
        self.log.add(events.Impression, after_s=0.01, slot=0, **about)
        if self.rng.random() < self.rate(decision):
            self.log.add(events.Click, after_s=0.01, **about)

    def shown(self, turns: int) -> Counter[str]:
        return Counter(decision.ads[0].creative_id for _ in range(turns) for decision in self.turn())


@pytest.mark.parametrize("seed", range(3))
def test_in_the_closed_loop_the_better_creative_wins(seed):
    loop = Loop({"x0": 0.06, "x1": 0.2, "x2": 0.06}, *["approved"] * 3, seed=seed)
    first = loop.shown(5)
    assert min(first[name] for name in ("x0", "x1", "x2")) > 0
    loop.shown(90)
    last = loop.shown(40)
    assert last["x1"] > 0.8 * last.total()
    assert last["x1"] < last.total(), "the others are still explored"


class TwoSegments(Loop):
    """Each segment answers to the creative that the other one leaves alone."""

    def request(self) -> None:
        n = len(self.log.records)
        self.log.request(f"u{n}", context=events.Context(segment=("s", "t")[n % 2]))

    def rate(self, decision: Decision) -> float:
        liked = {"s": "x0", "t": "x1"}[decision.segment]
        return 0.35 if decision.ads[0].creative_id == liked else 0.05


def test_each_segment_comes_to_see_the_creative_that_it_answers_to():
    loop = TwoSegments({}, "approved", "approved")
    for _ in range(100):
        loop.turn()
    shown = Counter((d.segment, d.ads[0].creative_id) for _ in range(30) for d in loop.turn())
    assert shown["s", "x0"] > 0.85 * (shown["s", "x0"] + shown["s", "x1"])
    assert shown["t", "x1"] > 0.85 * (shown["t", "x0"] + shown["t", "x1"])


def test_a_better_creative_that_is_approved_later_takes_over():
    loop = Loop({"x0": 0.08, "x1": 0.25}, "approved", "pending")
    assert loop.shown(60) == {"x0": 600}
    loop.review("approved", "approved")
    loop.shown(60)
    assert loop.shown(30)["x1"] > 0.8 * 300


def test_a_creative_whose_review_is_taken_back_is_shown_no_more():
    loop = Loop({"x0": 0.08, "x1": 0.25}, "approved", "approved")
    assert loop.shown(10)["x1"] > 0
    loop.review("approved", "rejected")
    assert loop.shown(10) == {"x0": 100}


def test_the_largest_decision_is_smaller_than_a_topic_takes():
    widest = "\U0001f600"
    log, control = LogBuilder(), "\x01" * 125
    log.add(events.PolicyChange, policy=Policy(slots=20, max_per_campaign=20))
    ads = [
        Ad(
            ad_id=f"{n:03d}{control}", campaign_id=control, category=control,
            creatives=(
                Creative(creative_id=control, **{name: widest * most for name, most in TEMPLATES.items()}),
            ),
        )
        for n in range(20)
    ]  # fmt: skip
    for few in (ads[:10], ads[10:]):
        log.add(events.AdUpsert, ads=tuple(few))
    log.request(user_id=control)
    (decision,) = bodies(run(Bench().shard(), log.records), Decision)
    assert len(decision.ads) == 20
    assert 600_000 < len(msgspec.json.encode(decision)) < 900_000
