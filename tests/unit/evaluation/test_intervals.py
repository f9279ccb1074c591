"""Intervals over users and over worlds: they cover as they say, and stay within a figure's range."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import t as student

from models.evaluation.intervals import AMOUNT, LOSS, SHARE, Estimate, interval_of, ratio_of_sums
from models.evaluation.ledger import FIELDS, Ledger
from models.evaluation.regret import regret_interval
from models.evaluation.simulate import BASELINES, run_policies
from models.evaluation.simulation_figures import FIGURES, against
from models.evaluation.simulation_report import simulation_report
from models.evaluation.world_config import Drift, Sizes, Traffic, WorldConfig

WORLD = WorldConfig(
    sizes=Sizes(users=60, ads=60),
    traffic=Traffic(requests_per_s=20, views_per_s=2),
    drift=Drift(shift_every_s=0),
)
OVER_USERS = (
    "ctr", "cvr", "revenue_micros", "value_micros", "charged_micros", "observed_ctr", "value_per_spend",
    "regret", "regret_in_place", "clicks_share_of_oracle",
)  # fmt: skip


def ledger_of(**columns: np.ndarray) -> Ledger:
    """Return a ledger whose books by user hold these fields and 0 elsewhere."""
    ledger = Ledger()
    ledger.by_user = np.zeros((len(next(iter(columns.values()))), len(FIELDS)))
    for field, values in columns.items():
        ledger.by_user[:, FIELDS.index(field)] = values
    return ledger


def some_users(rng: np.random.Generator, users: int = 300, base: float = -2.5) -> dict[str, np.ndarray]:
    """Return clicks and impressions of users who differ in activity and taste; E[rate] has no closed form."""
    impressions = rng.poisson(8 * rng.lognormal(0, 0.8, users))
    rates = 1 / (1 + np.exp(-(base + 0.6 * rng.standard_normal(users))))
    return {
        "impressions": impressions.astype(float),
        "clicks": rng.binomial(impressions, rates).astype(float),
    }


def report_of(names: tuple[str, ...], seconds: int, seeds: tuple[int, ...]) -> dict:
    run = run_policies(WORLD, {n: BASELINES[n] for n in names}, seconds, seeds=seeds, tick_ms=1000)
    return json.loads(json.dumps(simulation_report(run), allow_nan=False))


@pytest.fixture(scope="module")
def one_world():
    return report_of(("random", "popularity"), 20, (0,))


def covered(found, truth: float) -> bool:
    return found.low <= truth <= found.high


def test_a_rates_interval_over_users_covers_the_truth_in_95_of_100_ledgers():
    rng = np.random.default_rng(0)
    many = some_users(rng, 400_000)
    truth = many["clicks"].sum() / many["impressions"].sum()
    found = [FIGURES["observed_ctr"].over([ledger_of(**some_users(rng))]) for _ in range(1000)]
    assert np.mean([covered(each, truth) for each in found]) == pytest.approx(0.95, abs=0.02)


def test_a_totals_interval_over_users_covers_what_decisions_earn_in_95_of_100_ledgers():
    rng = np.random.default_rng(1)

    def draw(users: int) -> dict[str, np.ndarray]:
        drawn = some_users(rng, users)
        return {"decisions": drawn["impressions"], "value_micros": 1e5 * drawn["clicks"]}

    many = draw(400_000)
    worth = many["value_micros"].sum() / many["decisions"].sum()
    ledgers = [ledger_of(**draw(300)) for _ in range(1000)]
    found = [FIGURES["value_micros"].over([ledger]) for ledger in ledgers]
    truths = [worth * ledger.of_users("decisions").sum() for ledger in ledgers]
    share = np.mean([covered(each, truth) for each, truth in zip(found, truths, strict=True)])
    assert share == pytest.approx(0.95, abs=0.02)


def test_regrets_interval_over_users_covers_the_truth_in_95_of_100_ledgers():
    rng = np.random.default_rng(2)

    def draw(users: int) -> tuple[np.ndarray, np.ndarray]:
        best = rng.gamma(2.0, rng.lognormal(0, 0.8, users))
        return best * rng.beta(7, 3, users), best

    value, best = draw(400_000)
    truth = 1 - value.sum() / best.sum()
    pairs = [draw(300) for _ in range(1000)]
    found = [regret_interval([ours], [best], [(ours, best)]) for ours, best in pairs]
    assert np.mean([covered(each, truth) for each in found]) == pytest.approx(0.95, abs=0.02)


def test_what_the_oracle_and_a_policy_share_cancels():
    rng = np.random.default_rng(3)
    best = rng.lognormal(0, 1.5, 200)
    alike = against(ledger_of(value_micros=0.8 * best), ledger_of(value_micros=best), "value_micros")
    assert alike.value == pytest.approx(0.8) and alike.error == pytest.approx(0, abs=1e-12)


def test_at_one_seed_every_sum_over_users_has_an_interval_around_its_value(one_world):
    for name in ("random", "popularity"):
        for figure in OVER_USERS:
            found = one_world["policies"][name][figure]
            assert found["low"] < found["value"] < found["high"], (name, figure)


def test_the_oracles_regret_against_itself_is_exactly_nothing(one_world):
    oracle = one_world["policies"]["oracle"]
    assert oracle["regret"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert oracle["clicks_share_of_oracle"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_at_one_seed_what_is_no_sum_over_users_has_a_value_and_unknown_ends(one_world):
    found = one_world["policies"]["random"]["ece"]
    assert found["value"] > 0 and found["low"] is None and found["high"] is None


def test_the_report_says_once_what_its_intervals_cover(one_world):
    assert "over the users" in one_world["intervals"]
    assert "over worlds" in report_of(("random",), 2, (0, 1))["intervals"]


def test_several_worlds_widen_an_interval_by_what_worlds_differ():
    users = [Estimate(0.10, 0.001, 99.0), Estimate(0.20, 0.001, 99.0), Estimate(0.15, 0.001, 99.0)]
    found = interval_of(users, AMOUNT)
    assert found.high - found.low > 20 * 0.001


def test_worlds_that_agree_by_luck_do_not_narrow_an_interval_below_that_over_users():
    alike = interval_of([Estimate(0.1, 0.01, 99.0)] * 3, AMOUNT)
    half = student.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    assert np.log(alike.high / alike.low) == pytest.approx(2 * half / 0.1)


def test_the_interval_over_worlds_is_students_on_the_figures_scale():
    found = interval_of([Estimate(x) for x in (1.0, 2.0, 3.0)], AMOUNT)
    half = 4.302653 / np.sqrt(3) / 2
    assert (found.low, found.high) == pytest.approx((2 * np.exp(-half), 2 * np.exp(half)), rel=1e-5)


@pytest.mark.parametrize(("link", "value"), [(SHARE, 0.003), (SHARE, 0.997), (AMOUNT, 1e-4), (LOSS, 0.999)])
def test_an_interval_stays_within_its_figures_range_whatever_the_error(link, value):
    found = interval_of([Estimate(value, 5 * min(value, 1 - value), 20.0)], link)
    assert found.low < value < found.high
    assert link is LOSS or found.low >= 0
    assert link is AMOUNT or found.high <= 1


@pytest.mark.parametrize("link", [SHARE, AMOUNT, LOSS])
def test_a_links_way_back_and_slope_belong_to_its_map(link):
    for x in (0.02, 0.4, 0.93):
        assert link.back(link.apply(x)) == pytest.approx(x)
        assert link.slope(x) == pytest.approx((link.apply(x + 1e-6) - link.apply(x - 1e-6)) / 2e-6, rel=1e-4)


def test_a_figure_at_the_end_of_its_range_has_unknown_ends():
    none = ledger_of(impressions=np.full(50, 10.0), clicks=np.zeros(50))
    found = FIGURES["observed_ctr"].over([none])
    assert found.value == 0 and np.isnan([found.low, found.high]).all()


def test_a_single_user_has_a_figure_and_unknown_ends():
    found = interval_of([ratio_of_sums(np.array([1.0]), np.array([4.0]))], SHARE)
    assert found.value == 0.25 and np.isnan([found.low, found.high]).all()


def test_nothing_shown_and_a_figure_without_end_have_no_interval():
    nothing = interval_of([ratio_of_sums(np.zeros(3), np.zeros(3))], SHARE)
    endless = interval_of([Estimate(3.0), Estimate(float("inf"))], AMOUNT)
    assert np.isnan([nothing.value, nothing.low, nothing.high, endless.low, endless.high]).all()


def test_users_without_a_decision_change_nothing():
    rng = np.random.default_rng(4)
    few = some_users(rng, 50)
    more = {name: np.concatenate([values, np.zeros(1000)]) for name, values in few.items()}
    one, other = (FIGURES["observed_ctr"].over([ledger_of(**each)]) for each in (few, more))
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_the_books_by_user_add_up_to_those_by_second(monkeypatch):
    monkeypatch.setattr("models.evaluation.ledger.USER_ROWS", 7)  # users share rows
    run = run_policies(WORLD, {"random": BASELINES["random"]}, 5, seeds=(0,), tick_ms=500)
    (ledger,), (referee,) = run.ledgers["random"], run.referees["random"]
    assert ledger.by_user.shape == (7, len(FIELDS)) and referee.by_user.shape == (2, 7)
    assert ledger.by_user.sum(axis=0) == pytest.approx(list(ledger.totals().values()))
    ((value,), (bound,)) = run.judged("random")
    assert referee.by_user.sum(axis=1) == pytest.approx([value.sum(), bound.sum()])
