"""Exploration: reproducible draws, and propensities that match what the policy does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr, ndtri

from models.domain.ids import key64
from models.domain.policy import Exploration
from models.learning.exploration import (
    _normal_cdf,
    _win_probability,
    behavior_policy,
    exploration_logit,
    is_randomized,
    log_rank_sd,
    pick,
    randomized_users,
    slate,
    slate_propensity,
)
from models.learning.hashing import normal_quantile, uniforms

POLICY = Exploration()
SEEDS = np.arange(1, 20_001, dtype=np.uint64)


def keys(n: int) -> np.ndarray:
    return np.array([key64(f"ad-{i}") for i in range(n)], dtype=np.uint64)


def picks_of_many_seeds(log_rank, sd, randomized, policy=POLICY, seeds=SEEDS):
    rows, candidates = len(seeds), len(log_rank)
    return pick(
        np.broadcast_to(log_rank, (rows, candidates)).copy(),
        np.broadcast_to(sd, (rows, candidates)).copy(),
        np.broadcast_to(keys(candidates), (rows, candidates)).copy(),
        seeds,
        0,
        np.full(rows, randomized),
        policy,
    )


def propensities_of_all(log_rank, sd, randomized, policy=POLICY) -> np.ndarray:
    """Propensity of each candidate, read off the decisions that chose it."""
    seeds = np.arange(1, 400_001, dtype=np.uint64)
    picks = picks_of_many_seeds(np.asarray(log_rank), np.asarray(sd), randomized, policy, seeds)
    out = np.full(len(log_rank), np.nan)
    out[picks.column] = picks.propensity
    return out


def exact_win_probability(i, mean, sd):
    """The integral by brute force: 200,001 quantiles of the winner's own distribution."""
    x = mean[i] + sd[i] * ndtri((np.arange(200_001) + 0.5) / 200_001)
    rivals = [j for j in range(len(mean)) if j != i]
    product = np.ones_like(x)
    for j in rivals:
        product *= ndtr((x - mean[j]) / sd[j]) if sd[j] > 0 else (x > mean[j])
    return product.mean()


def test_normal_quantile_agrees_with_scipy_over_the_whole_range():
    u = np.concatenate([10.0 ** -np.arange(1, 17, dtype=float), np.linspace(0.001, 0.999, 999)])
    ours = np.array([normal_quantile(v) for v in u])
    np.testing.assert_allclose(ours, ndtri(u), rtol=1e-12, atol=1e-15)


def test_the_table_of_phi_errs_by_at_most_what_its_docstring_says():
    z = np.linspace(-9, 9, 50_001)
    table = np.array([_normal_cdf(32 * v) for v in z])
    assert np.abs(table - ndtr(z)).max() < 1.4e-9
    middle = np.abs(z) < 5
    np.testing.assert_allclose(table[middle], ndtr(z[middle]), rtol=3e-6)


def test_uniform_draws_are_uniform_and_their_streams_independent():
    key = np.broadcast_to(keys(4), (5000, 4)).copy()
    first, second = uniforms(SEEDS[:5000], key, 0).ravel(), uniforms(SEEDS[:5000], key, 1).ravel()
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert first.min() > 0 and first.max() < 1


@given(st.integers(0, 2**64 - 1), st.integers(1, 30), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_draw_depends_on_seed_key_and_stream_alone_not_on_the_batch(seed, rows, stream):
    seeds = np.arange(rows, dtype=np.uint64) + np.uint64(seed % 2**32)
    key = np.broadcast_to(keys(7), (rows, 7)).copy()
    whole = uniforms(seeds, key, stream)
    for b in range(rows):
        alone = uniforms(seeds[b : b + 1], key[b : b + 1, ::-1].copy(), stream)
        assert (alone[0, ::-1] == whole[b]).all()


def test_the_randomised_bucket_holds_its_share_of_users_and_is_stable_per_salt():
    users = np.array([key64(f"user-{i}") for i in range(20_000)], dtype=np.uint64)
    policy = Exploration(randomized_share=0.1)
    chosen = randomized_users(users, policy)
    assert chosen.mean() == pytest.approx(0.1, abs=0.01)
    assert (randomized_users(users[::-1].copy(), policy)[::-1] == chosen).all()
    other = randomized_users(users, Exploration(randomized_share=0.1, salt="other"))
    assert (chosen & other).mean() == pytest.approx(0.01, abs=0.005)


def test_a_larger_share_keeps_the_users_of_a_smaller_one():
    users = np.array([key64(f"user-{i}") for i in range(5000)], dtype=np.uint64)
    small = randomized_users(users, Exploration(randomized_share=0.02))
    large = randomized_users(users, Exploration(randomized_share=0.2))
    assert (small <= large).all()


def test_plackett_luce_frequencies_match_the_logged_propensities():
    log_rank = np.log(np.array([5.0, 2.0, 1.0, 0.2, 0.01]))
    picks = picks_of_many_seeds(log_rank, np.zeros(5), True)
    observed = np.bincount(picks.column, minlength=5)
    expected = propensities_of_all(log_rank, np.zeros(5), True)
    assert stats.chisquare(observed, expected * len(SEEDS)).pvalue > 1e-3


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=12), st.floats(0.05, 5), st.floats(0.01, 1))
@settings(max_examples=50, deadline=None)
def test_plackett_luce_propensities_of_all_candidates_sum_to_one(log_rank, tau, mix):
    policy = Exploration(temperature=tau, uniform_mix=mix)
    r = np.array(log_rank)
    weight = np.exp((r - r.max()) / tau)
    expected = mix / len(r) + (1 - mix) * weight / weight.sum()
    picks = picks_of_many_seeds(r, np.zeros(len(r)), True, policy, SEEDS[:300])
    np.testing.assert_allclose(picks.propensity, expected[picks.column], rtol=1e-12)
    assert expected.sum() == pytest.approx(1)


def test_the_uniform_share_bounds_every_plackett_luce_propensity_from_below():
    picks = picks_of_many_seeds(np.array([0.0, -50.0, -400.0]), np.zeros(3), True)
    assert picks.propensity.min() >= 0.05 / 3
    assert set(picks.column) == {0, 1, 2}


def test_thompson_frequencies_match_the_logged_propensities():
    log_rank, sd = np.array([0.0, -0.1, -0.3, -0.2]), np.array([0.1, 0.2, 0.3, 0.0])
    picks = picks_of_many_seeds(log_rank, sd, False)
    observed = np.bincount(picks.column, minlength=4) / len(SEEDS)
    expected = [exact_win_probability(i, log_rank, sd) for i in range(3)]
    np.testing.assert_allclose(observed[:3], expected, atol=0.012)


@given(
    st.lists(st.tuples(st.floats(-0.6, 0), st.floats(0.0, 0.4)), min_size=2, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_thompson_propensities_agree_with_the_brute_force_integral(candidates):
    log_rank, sd = np.array(candidates).T
    sd = np.where(sd < 0.02, 0.0, sd)
    picks = picks_of_many_seeds(log_rank, sd, False, seeds=SEEDS[:50])
    for i in set(picks.column.tolist()):
        if sd[i] > 0:
            logged = picks.propensity[picks.column == i][0]
            assert logged == pytest.approx(exact_win_probability(i, log_rank, sd), abs=1e-3)


@pytest.mark.parametrize("step", [0.003, 0.01, 0.03])
@pytest.mark.parametrize("third", [(0.0, 0.0), (-0.1, 0.02), (0.02, 0.3)])
def test_a_propensity_is_right_beside_a_rival_that_is_far_better_known(step, third):
    (log_rank, sd) = np.array([third, (0.05, 0.5), (0.1, step)]).T
    logged = _win_probability(log_rank, sd, 1)
    assert logged == pytest.approx(exact_win_probability(1, log_rank, sd), abs=2e-4)


def test_thompson_propensities_of_all_candidates_sum_to_one():
    rng = np.random.default_rng(0)
    for _ in range(3):
        log_rank, sd = rng.normal(0, 0.1, 6), rng.uniform(0.05, 0.3, 6)
        assert np.nansum(propensities_of_all(log_rank, sd, False)) == pytest.approx(1, abs=2e-3)


def test_without_noise_the_policy_is_greedy_with_propensity_one():
    picks = picks_of_many_seeds(np.array([0.1, 0.3, 0.2]), np.zeros(3), False, seeds=SEEDS[:10])
    assert (picks.column == 1).all() and (picks.propensity == 1).all() and (picks.log_shift == 0).all()


def test_a_leader_out_of_everybodys_reach_has_propensity_one():
    picks = picks_of_many_seeds(np.array([0.0, -5.0]), np.array([0.1, 0.1]), False, seeds=SEEDS[:10])
    assert (picks.propensity == 1).all() and (picks.log_shift != 0).all()


def test_a_row_without_candidates_picks_none():
    nothing = np.array([-np.inf, np.nan])
    for randomized in (True, False):
        picks = picks_of_many_seeds(nothing, np.ones(2), randomized, seeds=SEEDS[:3])
        assert (picks.column == -1).all() and (picks.propensity == 1).all()


def test_candidates_with_nan_or_minus_infinity_are_never_taken():
    log_rank = np.array([np.nan, 0.0, -np.inf, -0.1])
    for randomized in (True, False):
        picks = picks_of_many_seeds(log_rank, np.full(4, 0.3), randomized, seeds=SEEDS[:2000])
        assert set(picks.column) == {1, 3}


def test_a_pick_does_not_depend_on_the_other_rows_of_the_batch():
    rng = np.random.default_rng(1)
    log_rank, sd = rng.normal(0, 0.2, (40, 9)), rng.uniform(0, 0.3, (40, 9))
    key, seeds = np.broadcast_to(keys(9), (40, 9)).copy(), SEEDS[:40]
    randomized = rng.random(40) < 0.5
    whole = slate(log_rank, sd, key, seeds, 5, randomized, POLICY)
    for b in range(40):
        s = slice(b, b + 1)
        alone = slate(log_rank[s], sd[s], key[s], seeds[s], 5, randomized[s], POLICY)
        for one, all_rows in zip(alone, whole, strict=True):
            assert (one[0] == all_rows[b]).all()


def test_a_slate_repeats_no_ad_and_its_propensity_is_the_product_of_its_slots():
    log_rank = np.random.default_rng(2).normal(0, 1, (50, 6))
    key = np.broadcast_to(keys(6), (50, 6)).copy()
    picks = slate(log_rank, np.full((50, 6), 0.3), key, SEEDS[:50], 8, np.arange(50) % 2 == 0, POLICY)
    for row in picks.column:
        assert sorted(row[:6]) == list(range(6)) and (row[6:] == -1).all()
    np.testing.assert_allclose(slate_propensity(picks.propensity), picks.propensity.prod(axis=1))


def test_slate_frequencies_match_the_slate_propensities():
    log_rank = np.broadcast_to(np.log([4.0, 2.0, 1.0]), (20_000, 3)).copy()
    key = np.broadcast_to(keys(3), (20_000, 3)).copy()
    for randomized in (True, False):
        picks = slate(log_rank, np.full((20_000, 3), 0.5), key, SEEDS, 2, np.full(20_000, randomized), POLICY)
        code = picks.column[:, 0] * 3 + picks.column[:, 1]
        logged = slate_propensity(picks.propensity)
        for c in np.unique(code):
            assert (code == c).mean() == pytest.approx(logged[code == c][0], abs=0.015)


def test_inverse_propensity_weights_average_to_one_in_the_randomised_bucket():
    log_rank = np.array([0.0, 0.5, 1.0, 1.5])
    picks = picks_of_many_seeds(log_rank, np.zeros(4), True)
    assert (1 / picks.propensity).mean() == pytest.approx(4, rel=0.05)


def test_the_exploration_part_moves_pctr_by_exactly_the_log_shift():
    pctr, shift = np.array([0.01, 0.2, 0.6]), np.array([0.3, -0.2, 0.1])
    logit = np.log(pctr / (1 - pctr)) + exploration_logit(pctr, shift)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), pctr * np.exp(shift), rtol=1e-12)


def test_paying_for_impressions_leaves_nothing_to_explore():
    sd = log_rank_sd(np.full((1, 2), 0.16), np.full((1, 2), 0.1), 0.25, np.array([[True, False]]))
    np.testing.assert_allclose(sd, [[0.0, 0.25 * 0.4 * 0.9]])


def test_behavior_policy_names_the_rule_and_its_parameters():
    assert behavior_policy(POLICY, False) == "thompson(nu=0.05)"
    assert behavior_policy(Exploration(thompson_nu=0), False) == "greedy"
    assert behavior_policy(POLICY, True) == "plackett_luce(tau=0.5,uniform=0.05)"
    assert is_randomized(behavior_policy(POLICY, True)) and not is_randomized("greedy")
