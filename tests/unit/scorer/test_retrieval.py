"""Retrieval: the integer scan returns what scoring every ad would, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import ImpulseError
from models.scorer.reference import dot_reference, fma_reference, topk_reference
from models.scorer.retrieval import Boosts, scan_index, top_k, updated_index
from models.scorer.simd import TILE

SEEDS = st.integers(0, 2**32 - 1)


def problem(seed, ads, users, width, situations=2, eligible=0.5, scale=1.0):
    """Random arguments of `top_k` without k."""
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((ads, width)) * scale).astype(np.float32)
    index = scan_index(vectors, rng.standard_normal(ads).astype(np.float32))
    queries = rng.standard_normal((users, width)).astype(np.float32)
    bias = rng.standard_normal((situations, ads)).astype(np.float32)
    bits = rng.random((users, -(-ads // TILE) * TILE)) < eligible
    bits[:, ads:] = False
    words = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
    return queries, index, bias, rng.integers(0, situations, users), np.ascontiguousarray(words)


def everything(index, users):
    """A bitset of all ads."""
    return problem_bits(np.ones((users, index.ads), bool))


def problem_bits(chosen):
    """A bitset of the chosen ads `[B, A]`."""
    users, ads = chosen.shape
    bits = np.zeros((users, -(-ads // TILE) * TILE), bool)
    bits[:, :ads] = chosen
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)


def assert_same(got, expected):
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1].view(np.int32), expected[1].view(np.int32))


@given(
    SEEDS,
    st.integers(1, 300),
    st.integers(1, 4),
    st.sampled_from([1, 8, 16, 24, 64]),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([1e-3, 1.0, 30.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_scan_returns_the_rows_and_bits_of_scoring_every_ad(seed, ads, users, width, k, eligible, scale):
    arguments = problem(seed, ads, users, width, eligible=eligible, scale=scale)
    assert_same(top_k(*arguments, k), topk_reference(*arguments, k))


@given(SEEDS, st.integers(1, 300), st.integers(1, 40), st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_boosted_ads_are_ranked_with_their_boosts(seed, ads, k, boosted):
    arguments = problem(seed, ads, 3, 16)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(ads)[: rng.integers(0, boosted + 1)] for _ in range(3)]
    begin = np.concatenate([[0], np.cumsum([len(c) for c in chosen])])
    added = rng.choice([0.0, 1e-3, 2.0], begin[-1]).astype(np.float32)
    boosts = Boosts(begin, np.concatenate(chosen).astype(np.int32), added)
    assert_same(top_k(*arguments, k, boosts), topk_reference(*arguments, k, boosts))


@given(SEEDS, st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_equal_scores_go_to_the_lower_row(seed, k):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 2, (200, 4)).astype(np.float32)  # few distinct ads, many ties
    index = scan_index(vectors, np.zeros(200, np.float32))
    users = rng.integers(0, 2, (3, 4)).astype(np.float32)
    arguments = (users, index, np.zeros((1, 200), np.float32), np.zeros(3, np.int64), everything(index, 3))
    assert_same(top_k(*arguments, k), topk_reference(*arguments, k))


@given(SEEDS, st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_a_user_gets_the_same_bits_alone_and_in_any_batch(seed, k):
    users, index, bias, bias_row, eligible = problem(seed, 500, 9, 32)
    whole = top_k(users, index, bias, bias_row, eligible, k)
    order = np.random.default_rng(seed).permutation(9)
    shuffled = top_k(users[order], index, bias, bias_row[order], eligible[order], k)
    assert_same(shuffled, (whole[0][order], whole[1][order]))
    for b in range(9):
        one = slice(b, b + 1)
        assert_same(
            top_k(users[one], index, bias, bias_row[one], eligible[one], k), (whole[0][one], whole[1][one])
        )


def test_an_adversarial_order_of_ads_changes_nothing():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((1000, 16)).astype(np.float32)
    user = rng.standard_normal((1, 16)).astype(np.float32)
    index = scan_index(vectors[np.argsort(vectors @ user[0])], np.zeros(1000, np.float32))
    arguments = (user, index, np.zeros((1, 1000), np.float32), np.zeros(1, np.int64), everything(index, 1))
    assert_same(top_k(*arguments, 10), topk_reference(*arguments, 10))


def test_near_ties_below_the_resolution_of_eight_bits_are_ranked_exactly():
    base = np.random.default_rng(2).standard_normal(32).astype(np.float32)
    steps = np.arange(400, dtype=np.float32)[::-1, None] * np.float32(1e-6)
    index = scan_index(base + steps, np.zeros(400, np.float32))
    user = np.ones((1, 32), np.float32)
    arguments = (user, index, np.zeros((1, 400), np.float32), np.zeros(1, np.int64), everything(index, 1))
    assert_same(top_k(*arguments, 25), topk_reference(*arguments, 25))


def test_fewer_eligible_ads_than_wanted_leave_minus_one_and_minus_infinity():
    users, index, bias, bias_row, _ = problem(3, 100, 2, 16)
    chosen = np.zeros((2, 100), bool)
    chosen[0, [7, 80]] = True
    rows, scores = top_k(users, index, bias, bias_row, problem_bits(chosen), 4)
    assert set(rows[0, :2]) == {7, 80}
    assert rows[0, 2:].tolist() == [-1, -1]
    assert rows[1].tolist() == [-1] * 4
    assert np.isneginf(scores[1]).all()


def test_an_ad_with_a_bias_of_minus_infinity_comes_last():
    users, index, bias, bias_row, _ = problem(4, 70, 1, 16)
    bias[:, 5] = -np.inf
    rows, _ = top_k(users, index, bias, bias_row, everything(index, 1), 70)
    assert rows[0, -1] == 5


def test_a_score_that_is_no_number_is_never_returned():
    users, index, bias, bias_row, _ = problem(5, 70, 1, 16)
    bias[:, 5] = np.nan
    rows, _ = top_k(users, index, bias, bias_row, everything(index, 1), 70)
    assert 5 not in rows
    assert rows[0, -1] == -1


@pytest.mark.parametrize("users", [0, 3])
def test_an_empty_catalogue_has_no_best_ads(users):
    index = scan_index(np.zeros((0, 16), np.float32), np.zeros(0, np.float32))
    words, bias = np.zeros((users, 0), np.uint64), np.zeros((1, 0), np.float32)
    rows, _ = top_k(np.zeros((users, 16), np.float32), index, bias, np.zeros(users, np.int64), words, 5)
    assert rows.shape == (users, 5)
    assert (rows == -1).all()


@given(SEEDS, st.integers(1, 200), st.integers(0, 100), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_an_index_updated_by_rows_equals_one_built_whole(seed, ads, new, changed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((ads + new, 16)).astype(np.float32)
    bias = rng.standard_normal(ads + new).astype(np.float32)
    rows = np.unique(np.concatenate([rng.integers(0, ads, changed), np.arange(ads, ads + new)]))
    before = vectors[:ads].copy()
    before[rows[rows < ads]] += 1
    updated = updated_index(scan_index(before, bias[:ads]), ads + new, rows, vectors[rows], bias[rows])
    whole = scan_index(vectors, bias)
    for name in ("vectors", "bias", "codes", "offset", "scale", "error", "norm"):
        np.testing.assert_array_equal(getattr(updated, name), getattr(whole, name))


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(ImpulseError, match="NaN or infinity"):
        scan_index(np.full((1, 4), np.nan, np.float32), np.zeros(1, np.float32))


def test_arrays_of_another_catalogue_are_refused():
    users, index, bias, bias_row, eligible = problem(6, 100, 2, 16)
    with pytest.raises(ImpulseError, match="retrieve bias"):
        top_k(users, index, bias[:, :99], bias_row, eligible, 5)
    with pytest.raises(ImpulseError, match="retrieve eligible"):
        top_k(users, index, bias, bias_row, eligible[:, :1], 5)
    with pytest.raises(ImpulseError, match="retrieve bias_row"):
        top_k(users, index, bias, bias_row + 2, eligible, 5)


@given(SEEDS)
@settings(max_examples=50)
def test_the_reference_multiply_add_rounds_once(seed):
    from fractions import Fraction

    rng = np.random.default_rng(seed)
    a, b, c = (rng.standard_normal(1) * 2.0 ** rng.integers(-20, 20) for _ in range(3))
    a, b, c = (x.astype(np.float32) for x in (a, b, c))
    exact = Fraction(float(a[0])) * Fraction(float(b[0])) + Fraction(float(c[0]))
    got = fma_reference(a, b, c)[0]
    below, above = np.nextafter(got, np.float32(-np.inf)), np.nextafter(got, np.float32(np.inf))
    error = abs(Fraction(float(got)) - exact)
    assert error <= abs(Fraction(float(below)) - exact)
    assert error <= abs(Fraction(float(above)) - exact)


def test_the_reference_dot_product_agrees_with_float64():
    rng = np.random.default_rng(7)
    u, v = rng.standard_normal((2, 50)).astype(np.float32)
    assert dot_reference(u, v) == pytest.approx(np.dot(u.astype(float), v), abs=1e-5)
