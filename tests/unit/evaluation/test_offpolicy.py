"""Off-policy estimators against derivable values, Open Bandit's published ones, and the simulator's truth."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from connectors.open_bandit import read_open_bandit
from models.domain.errors import LogError
from models.evaluation.bootstrap import (
    jackknife_error,
    ratio_interval,
    resampled_sums,
    sums_by,
)
from models.evaluation.estimates import estimates
from models.evaluation.offpolicy import METHODS, BanditData, estimate, on_policy, support
from models.evaluation.reward_models import item_means

ROOT = Path(__file__).parents[3]
OPEN_BANDIT = Path(os.environ.get("IMPULSE_TEST_DATA", ROOT / "../shared/data")) / "open-bandit"
needs_open_bandit = pytest.mark.skipif(
    not OPEN_BANDIT.exists(), reason=f"no Open Bandit data in {OPEN_BANDIT}; set IMPULSE_TEST_DATA"
)
PUBLISHED_CTR = {
    ("random", "men"): 0.0051,
    ("random", "women"): 0.0048,
    ("bts", "men"): 0.0067,
    ("bts", "women"): 0.0064,
}
"""Click-through rates of the whole data set, by policy and campaign (Saito et al. 2020, table 1)."""


def data(reward, propensity, target, user=None, **model):
    n = len(reward)
    columns = (np.asarray(x, dtype=float) for x in (reward, propensity, target))
    return BanditData(*columns, np.arange(n) if user is None else np.asarray(user), **model)


def logged(seed, n=4000, actions=6, users=800):
    """A log of a contextual world with known truth: evaluation policy's value per row, and the data."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, n)
    click = np.random.default_rng(99).uniform(0.02, 0.3, (4, actions))[user % 4]
    behave = np.random.default_rng(98).dirichlet(np.full(actions, 3.0), 4)[user % 4]
    target = np.random.default_rng(97).dirichlet(np.full(actions, 3.0), 4)[user % 4]
    action = (behave.cumsum(1) < rng.random(n)[:, None]).sum(1).clip(0, actions - 1)
    row = np.arange(n)
    reward = (rng.random(n) < click[row, action]).astype(float)
    q = item_means(action, reward, user, actions)
    logged_data = BanditData(
        reward, behave[row, action], target[row, action], user,
        q_logged=q[row, action], v_target=(target * q).sum(1),
    )  # fmt: skip
    return logged_data, np.random.default_rng(99).uniform(0.02, 0.3, (4, actions)), target


def truth():
    click = np.random.default_rng(99).uniform(0.02, 0.3, (4, 6))
    target = np.random.default_rng(97).dirichlet(np.full(6, 3.0), 4)
    return float((click * target).sum(1).mean())


def test_ips_is_the_weighted_mean_reward():
    log = data([1, 0, 1, 0], [0.5, 0.5, 0.25, 0.25], [0.5, 0.1, 0.5, 0.9])
    assert estimate(log, "ips").interval.value == pytest.approx((1 + 2) / 4)


def test_snips_divides_by_the_weights_instead_of_the_rows():
    log = data([1, 0, 1, 0], [0.5, 0.5, 0.25, 0.25], [0.5, 0.1, 0.5, 0.9])
    assert estimate(log, "snips").interval.value == pytest.approx(3 / (1 + 0.2 + 2 + 3.6))


def test_dr_is_the_model_plus_the_weighted_residual():
    model = {"q_logged": np.array([0.5, 0.2]), "v_target": np.array([0.4, 0.3])}
    log = data([1, 0], [0.5, 0.5], [0.25, 1.0], **model)
    assert estimate(log, "dm").interval.value == pytest.approx(0.35)
    assert estimate(log, "dr").interval.value == pytest.approx((0.4 + 0.5 * 0.5 + 0.3 - 2 * 0.2) / 2)


def test_drs_model_of_a_slot_counts_with_the_weight_of_the_slots_before():
    model = {"q_logged": np.array([0.5, 0.2]), "v_target": np.array([0.4, 0.3])}
    log = data([1, 0], [0.5, 0.25], [0.25, 0.5], **model, weight_before=np.array([1.0, 0.5]))
    assert estimate(log, "dr").interval.value == pytest.approx((0.4 + 0.5 * 0.5 + 0.5 * 0.3 - 2 * 0.2) / 2)
    ones = data([1, 0], [0.5, 0.25], [0.25, 0.5], **model, weight_before=np.ones(2))
    none = data([1, 0], [0.5, 0.25], [0.25, 0.5], **model)
    assert METHODS["dr"](ones)[0].tolist() == METHODS["dr"](none)[0].tolist()


def test_there_is_no_dm_of_slates():
    model = {"q_logged": np.zeros(2), "v_target": np.zeros(2), "weight_before": np.ones(2)}
    with pytest.raises(LogError, match="'dm of slates', expected ips, snips or dr"):
        estimate(data([1, 0], [0.5, 0.5], [0.5, 0.5], **model), "dm")


@pytest.mark.parametrize(
    ("column", "bad", "named"),
    [
        ("weight_before", -0.1, "weight before"),
        ("weight_before", float("inf"), "weight before"),
        ("weight_before", float("nan"), "weight before"),
        ("q_logged", float("nan"), "modelled reward"),
        ("v_target", float("inf"), "modelled value"),
    ],
)
def test_models_and_weights_that_no_estimator_can_use_are_refused_by_number(column, bad, named):
    values = np.array([0.5, 0.5, bad])
    with pytest.raises(LogError, match=f"{named} of row 2: got {bad}, expected a finite number"):
        data(np.zeros(3), np.full(3, 0.5), np.full(3, 0.5), **{column: values})


@given(arrays(float, 30, elements=st.floats(0, 1)), arrays(float, 30, elements=st.floats(0.01, 1)))
@settings(max_examples=30, deadline=None)
def test_evaluating_the_policy_that_logged_gives_its_own_mean(reward, propensity):
    log = data(reward, propensity, propensity)
    for method in ("ips", "snips"):
        found = estimate(log, method, replicates=20).interval
        assert found.value == pytest.approx(reward.mean(), abs=1e-12)
        assert found == on_policy(log, replicates=20)


@given(st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_snips_scales_with_the_reward_and_ignores_the_scale_of_the_weights(scale):
    rng = np.random.default_rng(0)
    reward, propensity, target = rng.random(50), rng.uniform(0.2, 1, 50), rng.uniform(0, 0.5, 50)
    one = estimate(data(reward, propensity, target), "snips", replicates=10).interval
    more = estimate(data(reward * scale, propensity, target / 2), "snips", replicates=10).interval
    assert more.value == pytest.approx(one.value * scale)


def test_a_perfect_model_makes_dr_exact_whatever_the_weights():
    model = {"q_logged": np.array([1.0, 0.0, 1.0]), "v_target": np.full(3, 0.7)}
    assert estimate(
        data([1, 0, 1], [0.01, 0.9, 0.5], [1, 1, 1], **model), "dr"
    ).interval.value == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("propensity", 0.0),
        ("propensity", 1e-300),
        ("propensity", 1.5),
        ("propensity", float("nan")),
        ("target", -0.1),
        ("reward", float("inf")),
        ("reward", float("-inf")),
        ("reward", float("nan")),
        ("target", float("nan")),
    ],
)
def test_rows_that_no_estimator_can_use_are_refused_by_number(column, bad):
    columns = {name: np.array([0.5, 0.5, 0.5]) for name in ("reward", "propensity", "target")}
    columns[column][1] = bad
    with pytest.raises(LogError, match="row 1"):
        BanditData(**columns, user=np.arange(3))


def test_an_unknown_method_an_empty_log_and_a_missing_model_are_refused():
    with pytest.raises(LogError, match="ips or snips"):
        estimate(data([1.0], [0.5], [0.5]), "magic")
    with pytest.raises(LogError, match="no rows"):
        estimate(data([], [], []), "ips")
    with pytest.raises(LogError, match="q_logged"):
        estimate(data([1.0], [0.5], [0.5]), "dr")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_nan_reward_never_becomes_an_estimate(bad):
    """One of them would make every sum nan; the row is named instead, however many are good."""
    reward = np.zeros(1000)
    reward[[700, 900]] = bad
    with pytest.raises(LogError, match=f"reward of row 700: got {bad}, expected a finite number"):
        data(reward, np.full(1000, 0.5), np.full(1000, 0.5))


def mean_weight_of(factor, rows, spread=0.0):
    """A log whose weights average to a factor, alternating around it."""
    w = factor * (1 + spread * np.where(np.arange(rows) % 2, 1.0, -1.0))
    return support(data(np.zeros(rows), np.full(rows, 0.25), 0.25 * w))


@pytest.mark.parametrize(
    ("factor", "rows", "spread", "refused"),
    [
        (1.5, 1000, 0.5, True),  # propensities logged a third too small
        (0.6, 1000, 0.5, True),  # the log misses actions that the policy takes
        (1.04, 100_000, 0.5, False),  # certain, and within 5 %
        (1.07, 1000, 0.9, False),  # above 5 %, and within 4 standard errors
        (1.07, 10_000, 0.9, True),  # the same with more rows is certain
        (0.9, 1000, 0.0, True),  # no spread at all
    ],
)
def test_there_is_no_verdict_where_the_mean_weight_is_certainly_far_from_1(factor, rows, spread, refused):
    found = mean_weight_of(factor, rows, spread)
    assert ("mean weight" in found.refusal) == refused
    assert bool(found.refusal) == refused


def test_the_mean_weights_error_counts_users_and_not_rows():
    """A hundred rows of each of ten users say no more than ten."""
    per_user, user = np.linspace(0.2, 1.0, 10), np.repeat(np.arange(10), 100)
    found = support(data(np.zeros(1000), np.full(1000, 0.5), np.repeat(per_user, 100) / 2, user))
    assert found.weight_error == pytest.approx(per_user.std(ddof=1) / np.sqrt(10))


@pytest.mark.parametrize(("thin", "refused"), [(10, False), (11, True)])
def test_there_is_no_verdict_on_support_violations_above_one_per_cent_of_the_choices(thin, refused):
    """Rows that the evaluation policy would never choose are none."""
    propensity, target = np.full(2000, 0.5), np.full(2000, 1.0)
    propensity[:thin] = target[:thin] = 5e-5
    propensity[1000:], target[1000:] = 5e-5, 0.0
    found = support(data(np.zeros(2000), propensity, target))
    assert (found.thin, found.chosen) == (thin, 1000)
    assert ("support violations" in found.refusal) == refused


def test_a_refusal_keeps_every_method_from_a_verdict():
    rng = np.random.default_rng(0)
    told = estimates(data(rng.random(2000) < 0.1, np.full(2000, 0.25), np.full(2000, 0.5)), ("ips", "snips"))
    assert "mean weight 2.000 is not near 1" in told["refusal"]
    assert {each["verdict"] for each in told["estimates"].values()} == {"none"}


def test_there_is_no_verdict_below_500_effective_samples():
    few = estimate(data(np.ones(400), np.full(400, 0.5), np.full(400, 0.5)), "snips", replicates=10)
    enough = estimate(data(np.ones(600), np.full(600, 0.5), np.full(600, 0.5)), "snips", replicates=10)
    assert (few.verdict, enough.verdict) == (False, True)
    assert "400" in few.support.refusal


def test_there_is_no_verdict_below_one_per_cent_of_the_rows():
    target = np.zeros(100_000)
    target[:600] = 1.0
    found = support(data(np.zeros(100_000), np.full(100_000, 0.5), target))
    assert found.effective == pytest.approx(600)
    assert "1 %" in found.refusal


@pytest.mark.parametrize("method", METHODS)
def test_the_least_propensity_that_is_taken_gives_numbers(method):
    model = {"q_logged": np.full(600, 0.1), "v_target": np.full(600, 0.1)}
    found = estimate(data([0, 1] * 300, np.full(600, 1e-140), np.ones(600), **model), method, replicates=20)
    assert found.support.effective == pytest.approx(600)
    assert np.isfinite([found.interval.value, found.interval.low, found.interval.high]).all()
    assert "mean weight" in found.support.refusal


def test_thin_support_and_large_weights_are_counted():
    found = support(data([0, 0, 1], [1e-6, 1e-6, 0.5], [0.5, 0.0, 0.5]))
    assert (found.thin, found.max_weight, found.rows) == (1, 5e5, 3)


def test_item_means_never_look_at_their_own_fold():
    action, user = np.zeros(4, int), np.array([0, 0, 1, 1])
    q = item_means(action, np.array([1.0, 1.0, 0.0, 0.0]), user, 2, prior=0.0001)
    np.testing.assert_allclose(q[:, 0], [0, 0, 1, 1], atol=1e-3)


def test_users_stand_or_fall_together_in_the_bootstrap():
    rng = np.random.default_rng(1)
    per_user = rng.random(50)
    reward, user = np.repeat(per_user, 40), np.repeat(np.arange(50), 40)
    ones = np.ones(2000)
    clustered = ratio_interval(reward, ones, user)
    naive = ratio_interval(reward, ones, np.arange(2000))
    assert clustered.high - clustered.low > 4 * (naive.high - naive.low)


def test_resampling_keeps_the_mean_and_is_seeded():
    sums = sums_by(np.arange(100), np.random.default_rng(0).random(100))
    drawn = resampled_sums(sums, 3000, seed=5)
    np.testing.assert_array_equal(drawn, resampled_sums(sums, 3000, seed=5))
    assert drawn.mean() == pytest.approx(sums.sum(), rel=0.01)
    assert drawn.std() == pytest.approx(sums.std() * 10, rel=0.1)


def test_every_estimator_finds_the_truth_on_a_large_log():
    log, _, _ = logged(1, n=60_000, users=12_000)
    for method in METHODS:
        assert estimate(log, method, replicates=50).interval.value == pytest.approx(truth(), abs=0.02)
    assert support(log).mean_weight == pytest.approx(1, abs=0.03)


def test_one_user_has_a_value_and_no_interval():
    found = ratio_interval(np.array([1.0, 0.0]), np.ones(2), np.zeros(2, int))
    assert found.value == 0.5
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(("users", "known"), [(1, False), (9, False), (10, True)])
def test_of_fewer_than_ten_users_a_value_has_no_interval(users, known):
    user, reward = np.arange(2000) % users, np.random.default_rng(0).random(2000)
    told = estimates(data(reward, np.full(2000, 0.5), np.full(2000, 0.5), user), ("ips", "snips"))
    ends = [found[end] for found in (told["logged"], told["estimates"]["ips"]) for end in ("low", "high")]
    assert [end is not None for end in ends] == [known] * 4
    assert told["logged"]["value"] == pytest.approx(reward.mean())


@pytest.mark.parametrize(("users", "refused"), [(9, True), (10, False)])
def test_there_is_no_verdict_from_fewer_than_ten_users(users, refused):
    reward, user = np.random.default_rng(0).random(2000), np.arange(2000) % users
    told = estimates(data(reward, np.full(2000, 0.5), np.full(2000, 0.5), user), ("ips",))
    assert (told["estimates"]["ips"]["verdict"] == "none") == refused
    assert ("users are too few" in told["refusal"]) == refused


def test_rare_clicks_reach_further_up_than_down():
    reward = np.zeros(2000)
    reward[::250] = 1
    found = ratio_interval(reward, np.ones(2000), np.arange(2000) // 10)
    assert 0 < found.low < found.value < found.high
    assert found.high - found.value > 1.2 * (found.value - found.low)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(3).random(60)
    sums = np.stack([values, np.ones(60)], axis=1)
    assert jackknife_error(sums) == pytest.approx(values.std(ddof=1) / np.sqrt(60))


@given(st.floats(0.1, 10), st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_intervals_move_with_the_scale_and_the_level_of_the_reward(scale, level):
    rng = np.random.default_rng(2)
    reward, ones, user = rng.exponential(size=300), np.ones(300), np.arange(300) // 3
    one = ratio_interval(reward, ones, user, replicates=200)
    more = ratio_interval(level + scale * reward, ones, user, replicates=200)
    assert more.low == pytest.approx(level + scale * one.low, abs=1e-6)
    assert more.high == pytest.approx(level + scale * one.high, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ips", "snips", "dr"])
def test_95_per_cent_intervals_cover_the_truth_in_95_per_cent_of_200_logs(method):
    covered = [estimate(logged(s)[0], method, replicates=400).interval.covers(truth()) for s in range(200)]
    assert 0.93 <= np.mean(covered) <= 0.97


def uniform_on(policy, campaign):
    log = read_open_bandit(OPEN_BANDIT / policy / campaign / f"{campaign}.csv.gz")
    items = len(log.item_features)
    return BanditData(log.click, log.propensity, np.full(len(log.click), 1 / items), log.user)


@needs_open_bandit
@pytest.mark.parametrize(("policy", "campaign"), PUBLISHED_CTR)
def test_open_bandits_on_policy_value_agrees_with_the_published_rate(policy, campaign):
    on = on_policy(uniform_on(policy, campaign))
    error = (on.high - on.low) / 4
    assert abs(on.value - PUBLISHED_CTR[policy, campaign]) < 4 * error


@needs_open_bandit
@pytest.mark.parametrize("campaign", ["men", "women"])
def test_open_bandits_uniform_policy_on_its_own_log_is_its_mean_click_rate(campaign):
    log = uniform_on("random", campaign)
    assert estimate(log, "snips").interval == on_policy(log)
    assert log.reward.sum() == 46
    assert support(log).mean_weight == pytest.approx(1)


@needs_open_bandit
def test_open_bandits_uniform_policy_is_found_from_the_men_log_of_thompson_sampling():
    found = estimate(uniform_on("bts", "men"), "snips")
    assert found.verdict
    assert found.interval.low < PUBLISHED_CTR["random", "men"]
    assert found.interval.high > 0.0046


@needs_open_bandit
def test_open_bandits_women_log_of_thompson_sampling_gives_no_verdict():
    found = estimate(uniform_on("bts", "women"), "snips")
    assert not found.verdict
    assert found.support.thin == 1
    assert found.support.max_weight > 10_000
