"""Views tell that a segment's interests have moved; nothing moves while they are spread as usual."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.outcomes import MINUTE, outcome

from models.domain.decision import Interest, Parts
from models.domain.errors import SettingError
from models.learning.change_points import MOST, RUNS
from models.learning.elasticity import Elasticity, Judged
from models.learning.interest import LARGE, InterestWatch
from models.learning.learner import Learner
from models.learning.sample import SEGMENT_CATEGORY
from models.learning.settings import LearnerSettings

CATEGORIES = ("a", "b", "c", "d")
DAY = 86_400
EVEN = {f"s|{category}": 5 for category in CATEGORIES}
TURNED = {"s|a": 1, "s|b": 5, "s|c": 13, "s|d": 1}
TURNED_OF_T = {f"t{cell[1:]}": views for cell, views in TURNED.items()}


def interest(at_s: int, views=EVEN, shard="00000-000") -> Interest:
    return Interest(shard=shard, event_time=at_s * 1000, views=dict(views))


def watch(**kwargs) -> InterestWatch:
    return InterestWatch(**{"change_s": 1000.0, "memory_s": 600.0, **kwargs})


def told(of: InterestWatch, seconds, views=EVEN, shards=("00000-000",)) -> dict[str, float]:
    """Tell the same views every second; return by how much each cell's share has changed in all."""
    total: dict[str, float] = {}
    for s in seconds:
        for shard in shards:
            of.add(interest(s, views, shard))
        moved = of.steps(1.0, s * 1000)
        for cell, by in zip(moved.cells, moved.change.tolist(), strict=True):
            total[cell] = total.get(cell, 0.0) + by
    return total


def test_views_that_are_spread_as_usual_move_nothing():
    assert told(watch(), range(300)) == {}


def test_a_category_that_was_never_looked_at_and_comes_to_be_liked_has_changed():
    of = watch()
    told(of, range(120))
    liked = told(of, range(120, 150), {**EVEN, "s|new": 5})
    assert liked["s|new"] > 3.0


def test_a_segment_that_was_never_seen_has_no_usual_interests_yet():
    of = watch()
    told(of, range(120))
    assert told(of, range(120, 150), EVEN | TURNED_OF_T) == {}


@pytest.mark.parametrize("seed", range(3))
def test_chance_alone_moves_next_to_nothing(seed):
    of, rng, total = watch(), np.random.default_rng(seed), {}
    names = [f"s{s}|c{c}" for s in range(8) for c in range(24)]
    for s in range(600):
        drawn = zip(names, rng.poisson(0.4, len(names)), strict=True)
        for cell, by in told(of, [s], {name: int(n) for name, n in drawn if n}).items():
            total[cell] = total.get(cell, 0.0) + by
    assert sum(by * by for by in total.values()) / len(names) < 0.01


def test_a_category_that_is_looked_at_more_moves_up_and_one_that_is_left_moves_down():
    of = watch()
    told(of, range(200))
    moved = told(of, range(200, 260), TURNED)
    assert moved["s|c"] == pytest.approx(np.log(13 / 5), abs=0.1)
    assert moved["s|a"] == pytest.approx(np.log(1 / 5), abs=0.2)
    assert abs(moved.get("s|b", 0.0)) < 0.1


def test_ten_seconds_tell_most_of_a_change():
    of = watch()
    told(of, range(200))
    assert told(of, range(200, 211), TURNED)["s|c"] > 0.8 * np.log(13 / 5)


def test_what_changes_twice_is_followed_twice():
    of = watch()
    told(of, range(200))
    there = told(of, range(200, 300), TURNED)
    back = told(of, range(300, 400))
    for cell in ("s|a", "s|c", "s|d"):
        assert back[cell] == pytest.approx(-there[cell], abs=0.2)


def test_more_changes_than_runs_are_kept_are_followed_all_the_same():
    of, total = watch(), {}
    told(of, range(200))
    for turn in range(RUNS + 5):
        views = TURNED if turn % 2 == 0 else EVEN
        for cell, by in told(of, range(200 + 60 * turn, 260 + 60 * turn), views).items():
            total[cell] = total.get(cell, 0.0) + by
    assert total["s|c"] == pytest.approx(np.log(13 / 5), abs=0.35)


def test_another_segments_views_say_nothing():
    of = watch()
    told(of, range(200), EVEN | {"t|a": 5, "t|b": 5})
    moved = told(of, range(200, 260), {**EVEN, "t|a": 9, "t|b": 1})
    assert {cell.split("|")[0] for cell in moved} == {"t"}


def test_more_views_of_every_category_are_no_change():
    of = watch()
    told(of, range(200))
    assert told(of, range(200, 260), {cell: 6 * n for cell, n in EVEN.items()}) == {}


def test_a_segment_that_nobody_of_looks_at_anything_has_not_changed():
    of = watch()
    told(of, range(200), EVEN | TURNED_OF_T)
    moved = told(of, range(200, 4000, 10))
    assert all(abs(by) < 0.05 for cell, by in moved.items() if cell.startswith("t|"))


def test_nothing_moves_before_it_is_known_what_is_usual():
    assert told(watch(), range(10), TURNED) == {}


def test_what_has_been_changed_for_hours_is_usual():
    of = watch()
    told(of, range(200))
    up = told(of, range(200, 300), TURNED)["s|c"]
    assert told(of, range(300, 300 + 3 * 3600, 10), TURNED)["s|c"] == pytest.approx(-up, abs=0.1)


def test_a_weight_that_fades_is_held_where_views_have_put_it():
    of, weight = watch(), 0.0
    told(of, range(200))
    for s in range(200, 500):
        of.add(interest(s, TURNED))
        moved = of.steps(0.5, s * 1000)
        by = dict(zip(moved.cells, moved.step.tolist(), strict=True)).get("s|c", 0.0)
        weight = weight * np.exp(-1 / 600) + by
    assert weight == pytest.approx(0.5 * np.log(13 / 5), abs=0.1)


def test_a_category_that_nobody_looks_at_for_days_stays_within_bounds_and_may_come_back():
    of, silent = watch(), {cell: n for cell, n in EVEN.items() if cell != "s|d"}
    told(of, range(600))
    told(of, range(600, 10 * DAY, 600), {cell: 120 * n for cell, n in silent.items()})
    assert np.isfinite(of._columns["usual"]).all()
    assert np.abs(of._columns["held"]).max() < 0.1
    back = told(of, range(10 * DAY, 10 * DAY + 60), EVEN)
    assert 0.3 < back["s|d"] < MOST + 0.1


def test_absurdly_many_views_move_nothing_beyond_all_bounds():
    of = watch()
    told(of, range(200))
    told(of, range(200, 210), {**EVEN, "s|c": 10**9})
    assert np.abs(of._columns["shift"]).max() <= MOST


def test_a_record_from_the_far_future_does_not_stop_what_follows():
    of = watch()
    told(of, range(200))
    of.add(interest(10**8, {"s|a": 1}, shard="other"))
    assert told(of, range(200, 260), TURNED)["s|c"] > 0.5


def test_a_change_that_is_believed_in_bit_by_bit_is_large_in_the_end():
    of, largest = watch(), 0.0
    told(of, range(0, 6000, 10), dict.fromkeys(EVEN, 1))
    for s in range(6000, 9000, 10):
        of.add(interest(s, {"s|c": 1} if s % 20 else {"s|c": 1, "s|a": 1}))
        since = of.steps(1.0, s * 1000).since
        largest = max(largest, float(np.abs(since).max(initial=0.0)))
    assert largest >= LARGE


def test_records_that_are_read_ahead_of_the_labels_move_weights_in_their_time():
    ahead, along, both = watch(), watch(), ([], [])
    for s in range(300):
        ahead.add(interest(s, EVEN if s < 200 else TURNED))
    for s in range(300):
        along.add(interest(s, EVEN if s < 200 else TURNED))
        for of, moves in zip((ahead, along), both, strict=True):
            moved = of.steps(0.5, s * 1000)
            moves.append((moved.cells, moved.step.tolist(), moved.change.tolist()))
    assert both[0] == both[1]
    assert not any(cells for cells, _, _ in both[0][:200])


def test_no_more_than_so_many_counts_wait_for_the_labels(monkeypatch):
    monkeypatch.setattr("models.learning.interest._MOST_AHEAD", 40)
    of = watch()
    for s in range(1000):
        of.add(interest(s))
    assert of._held_back == sum(len(views) for *_, views in of._ahead) == 40
    assert of._ahead[0][0] == 990_000


def test_with_an_elasticity_of_0_changes_are_told_all_the_same():
    of, seen = watch(), set()
    told(of, range(200))
    for s in range(200, 230):
        of.add(interest(s, TURNED))
        moved = of.steps(0.0, s * 1000)
        assert not moved.step.any()
        seen |= set(moved.cells)
    assert {"s|a", "s|c", "s|d"} <= seen


def test_a_weight_that_is_at_its_prior_again_is_moved_again():
    of = watch()
    told(of, range(200))
    told(of, range(200, 260), TURNED)
    of.forget(["s|c", "s|unknown"])
    assert told(of, range(260, 263), TURNED)["s|c"] == pytest.approx(np.log(13 / 5), abs=0.1)


def test_what_was_rolled_back_is_not_moved_again():
    of = watch()
    told(of, range(200))
    told(of, range(200, 260), TURNED)
    of.rolled_back()
    assert all(abs(by) < 0.1 for by in told(of, range(260, 400), TURNED).values())


def test_a_record_that_comes_twice_counts_once():
    once, twice = watch(), watch()
    assert once.add(interest(1))
    assert twice.add(interest(1))
    assert not twice.add(interest(1, TURNED))
    assert twice.to_bytes() == once.to_bytes()


def test_records_of_several_shards_add_up():
    one, two = watch(), watch()
    told(one, range(200), {cell: 2 * n for cell, n in EVEN.items()})
    told(two, range(200), EVEN, shards=("00000-000", "00001-000"))
    both = told(two, range(200, 230), TURNED, shards=("00000-000", "00001-000"))
    assert both == told(one, range(200, 230), {cell: 2 * n for cell, n in TURNED.items()})


def test_cells_that_nobody_looks_at_any_more_make_room():
    of = watch(capacity=4, memory_s=10.0)
    told(of, range(5))
    told(of, range(5, 200), {"s|a": 5})
    told(of, range(200, 203), {"s|a": 5, "s|new": 1})
    assert list(of._place) == ["s|a", "s|new"]


def test_with_all_cells_in_use_a_new_one_is_left_out():
    of = watch(capacity=4)
    told(of, range(5))
    told(of, range(5, 9), {**EVEN, "s|new": 1})
    assert list(of._place) == list(EVEN)


@given(st.lists(st.dictionaries(st.sampled_from(list(EVEN)), st.integers(1, 50)), max_size=60))
def test_a_restored_watch_goes_on_as_the_original_would(told_views):
    of, middle = watch(), len(told_views) // 2
    for s, views in enumerate(told_views[:middle]):
        of.add(interest(s, views))
        of.steps(1.0, s * 1000)
    again = watch()
    again.restore(of.to_bytes())
    for s, views in enumerate(told_views[middle:], start=middle):
        assert of.add(interest(s, views)) == again.add(interest(s, views))
        one, other = of.steps(1.0, s * 1000), again.steps(1.0, s * 1000)
        assert one.cells == other.cells
        assert np.array_equal(one.step, other.step) and np.array_equal(one.change, other.change)


def judged(truth: float, steps: int = 40, seed: int = 0) -> Elasticity:
    """Return what is learned of steps after which the weight goes to ``truth * change``, give or take."""
    belief, rng = Elasticity(), np.random.default_rng(seed)
    for _ in range(steps):
        change = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.5))
        belief.expect("s|a", 0.2, change, (0.2 + belief.mean * change, 0.1), now_ms=0)
        weight = 0.2 + truth * change + rng.normal(0.0, 0.05)
        certain = 1.0 / 0.1 + 1.0 / 0.01  # the evidence since then has variance .01
        belief.judge("s|a", ((0.2 + belief.mean * change) / 0.1 + weight / 0.01) / certain, 1.0 / certain)
    return belief


@pytest.mark.parametrize("truth", [0.0, 0.33, 1.0])
def test_the_elasticity_comes_to_what_steps_turn_out_to_be_worth(truth):
    assert judged(truth).mean == pytest.approx(truth, abs=0.12)


def test_a_step_that_no_label_followed_teaches_nothing():
    belief = Elasticity()
    belief.expect("s|a", 0.0, 1.0, (0.5, 0.1), now_ms=0)
    belief.judge("s|a", 0.5, 0.1)
    assert belief == Elasticity()


def test_steps_in_quick_succession_are_judged_as_one_after_the_last():
    belief = Elasticity()
    belief.expect("s|a", 0.1, 0.5, (0.35, 0.1), now_ms=0)
    belief.expect("s|a", 0.35, 0.7, (0.7, 0.1), now_ms=5_000)
    assert belief.due(60_000) == []
    assert belief.due(65_000) == ["s|a"]
    assert belief.pending["s|a"][:2] == (0.1, 1.2)


def test_small_steps_count_towards_the_one_that_is_judged_and_do_not_delay_it():
    belief = Elasticity()
    belief.expect("s|a", 0.1, 0.5, (0.35, 0.1), now_ms=0)
    belief.refine("s|a", 0.1, 0.05)
    belief.refine("s|b", 0.1, 0.05)
    assert belief.due(60_000) == ["s|a"]
    assert belief.pending["s|a"][1:3] == pytest.approx((0.6, 0.4))


def test_small_steps_before_a_large_one_are_judged_with_it():
    belief = Elasticity()
    belief.expect("s|a", 0.3, 0.2, (0.4, 0.1), now_ms=0, earlier=0.4)
    assert belief.pending["s|a"][:3] == pytest.approx((0.1, 0.6, 0.4))


def test_what_clicks_have_told_since_a_step_is_not_told_again_by_views():
    belief = Elasticity()
    belief.expect("s|a", 0.0, 1.0, (0.5, 0.12), now_ms=0)
    assert belief.trust("s|a", variance=0.12) == 1.0
    assert belief.trust("s|a", variance=0.03) == pytest.approx(0.25)
    assert belief.trust("s|b", variance=0.03) == 1.0


@pytest.fixture
def learner():
    return learner_of()


def learner_of(**settings) -> Learner:
    """Return a learner that knows how the segment's views are usually spread."""
    of = Learner(LearnerSettings(**settings))
    live(of, range(200), EVEN)
    return of


def live(of: Learner, seconds, views) -> dict[str, tuple[float, float]]:
    """Let the seconds pass; return the last weights that were said of the cells."""
    said = {}
    for s in seconds:
        of.follow([interest(s, views)])
        seen = outcome("impression", at_s=s, segment="s", category="b", parts=Parts(base=-3.0))
        for record in of.learn([seen]).adjustments:
            said |= record.segment_categories
    return said


@pytest.mark.parametrize("engine", ["impulse", "river_lr", "river_adpredictor"])
def test_a_category_that_was_never_shown_is_told_of_by_views(engine):
    said = live(learner_of(engine=engine), range(200, 260), TURNED)
    assert said["s|c"][0] > 0.2
    assert said["s|a"][0] < -0.2


def test_with_interest_weight_0_views_teach_nothing():
    assert live(learner_of(interest_weight=0.0), range(200, 260), TURNED).keys() == {"s|b"}


def test_a_restored_learner_follows_interests_as_the_original_would(learner):
    again = Learner.from_bytes(learner.to_bytes())
    assert live(again, range(200, 260), TURNED) == live(learner, range(200, 260), TURNED)


def test_a_roll_back_judges_no_step_that_it_has_undone(learner):
    live(learner, range(200, 230), TURNED)
    assert learner._interests.elasticity.pending
    learner._roll_back(230_000, learner.version + 1)
    assert not learner._interests.elasticity.pending


def test_a_step_whose_weight_made_way_for_others_is_not_judged_by_one_of_theirs():
    learner = Learner(LearnerSettings(features=16))
    for second in range(200):
        clicked = outcome("click", at_s=second, ad_id="liked", campaign_id=f"c{second}")
        learner.learn([outcome("impression", at_s=second, ad_id="liked", campaign_id=f"c{second}"), clicked])
    follower, prior = learner._interests, learner.settings.priors.segment_category
    follower.elasticity.pending["s|c"] = Judged(0.0, 1.0, 0.5, prior, due_ms=0)
    believed = follower.elasticity.mean
    follower.move(MINUTE + 200_000)
    assert not follower.elasticity.pending and follower.elasticity.mean == believed


def test_the_views_of_an_evicted_weight_count_anew():
    learner = learner_of(features=64)
    live(learner, range(200, 230), TURNED)
    watched = learner._interests._watch
    assert watched._columns["held"].any() and learner._interests.elasticity.pending
    for n in range(100):
        about = {"at_s": 230, "ad_id": f"a{n}", "campaign_id": f"c{n}"}
        learner.learn([outcome("impression", **about), outcome("click", **about)])
    assert learner._vocabulary.find(SEGMENT_CATEGORY, "s|c") < 0
    assert not watched._columns["held"][list(watched._place).index("s|c")]
    assert "s|c" not in learner._interests.elasticity.pending


@pytest.mark.parametrize(("name", "bad"), [("weight", -1.0), ("change_s", 0.0), ("change_s", float("nan"))])
def test_a_wrong_setting_is_refused(name, bad):
    with pytest.raises(SettingError, match=f"learner.interest_{name}"):
        LearnerSettings(**{f"interest_{name}": bad})
