"""The vector kernels against plain numpy, and the same bits on machines with other instructions."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from models.scorer.kernels import attend, multiply, rms_norm, rotate_heads
from models.scorer.reference import dot_reference, fma_reference
from models.scorer.simd import dot, padded, softmax_slots

SEEDS = st.integers(0, 2**32 - 1)


@njit
def softmax(scores, newest, seen):
    return softmax_slots(scores, 0, newest, seen, len(scores))


@njit
def dot_of(a, b):
    return dot(a, 0, b, 0, len(a))


def floats(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(SEEDS, st.sampled_from([16, 32, 64, 240]))
@settings(max_examples=30, deadline=None)
def test_the_dot_product_has_the_bits_of_its_reference(seed, width):
    a, b = floats(seed, 2, width)
    assert np.float32(dot_of(a, b)).view(np.int32) == dot_reference(a, b).view(np.int32)


@given(SEEDS, st.integers(1, 13), st.integers(1, 70), st.sampled_from([16, 32, 48, 64, 80, 112, 240]))
@settings(max_examples=40, deadline=None)
def test_a_matrix_product_adds_up_in_order_for_any_number_of_rows(seed, rows, n_in, n_out):
    x, w = floats(seed, rows, n_in), floats(seed + 1, n_in, n_out)
    got, expected = np.empty(rows * n_out, np.float32), np.zeros((rows, n_out), np.float32)
    multiply(x, 0, n_in, w, 0, n_in, n_out, got, 0, n_out, rows)
    for i in range(n_in):
        expected = fma_reference(
            *(np.broadcast_to(v, expected.shape).copy() for v in (x[:, i : i + 1], w[i])), expected
        )
    np.testing.assert_array_equal(got.reshape(rows, n_out).view(np.int32), expected.view(np.int32))


@given(SEEDS, st.sampled_from([16, 64]), st.integers(1, 16), st.integers(0, 1000), st.floats(0.01, 50))
@settings(max_examples=40, deadline=None)
def test_softmax_weighs_the_latest_slots_of_a_ring_and_no_other(seed, ring, seen, event, spread):
    scores = floats(seed, ring) * np.float32(spread)
    slots = [(event - back) % ring for back in range(seen)]
    exact = np.exp((scores[slots] - scores[slots].max()).astype(float))
    got = scores.copy()
    total = softmax(got, event % ring, seen)
    np.testing.assert_allclose(got[slots], exact, rtol=3e-6, atol=2e-38)
    assert total == pytest.approx(exact.sum(), rel=1e-5)
    assert np.delete(got, slots).tolist() == [0.0] * (ring - seen)


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_what_stands_in_masked_slots_changes_no_bit_of_attention(seed, rows):
    ring, width, seen, newest = 32, 16, 6, 3
    q, keys, values = floats(seed, rows, width), floats(seed + 1, width, ring), floats(seed + 2, ring, width)
    masked = [r for r in range(ring) if (newest - r) % ring >= seen]
    answers = []
    for filler in (0.0, -1e30, 7.0):
        keys[:, masked], values[masked] = filler, filler
        out, scores = np.empty(rows * width, np.float32), np.empty(rows * (ring + 1), np.float32)
        attend(q, 0, width, keys, 0, values, 0, newest, seen, ring, width, scores, out, 0, width, rows)
        answers.append(out)
    assert answers[0].tobytes() == answers[1].tobytes() == answers[2].tobytes()


def test_attention_is_the_weighted_mean_of_the_seen_values():
    ring, width, seen, newest = 16, 16, 5, 2
    q, keys, values = floats(0, 1, width), floats(1, width, ring), floats(2, ring, width)
    slots = [(newest - back) % ring for back in range(seen)]
    weights = np.exp(q @ keys[:, slots])
    out, scores = np.empty(width, np.float32), np.empty(ring + 1, np.float32)
    attend(q, 0, width, keys, 0, values, 0, newest, seen, ring, width, scores, out, 0, width, 1)
    np.testing.assert_allclose(out, (weights / weights.sum() @ values[slots])[0], rtol=1e-4, atol=1e-5)


def test_the_norm_ignores_padding():
    x, weight, out = floats(0, 32), np.ones(32, np.float32), np.empty(32, np.float32)
    x[20:] = 0
    rms_norm(x, 0, weight, 0, out, 20, 32)
    np.testing.assert_allclose(out[:20], x[:20] / np.sqrt((x[:20] ** 2).mean() + 1e-6), rtol=1e-5)


def test_rotated_queries_and_keys_depend_on_their_distance_alone():
    angle = 2 * np.pi * np.arange(64)[:, None] * np.arange(1, 9) / 64
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    products = []
    for shift in (0, 9, 50):
        q, k = floats(1, 2, 16)
        rotate_heads(q, 0, 1, 16, cos, sin, (3 + shift) % 64)
        rotate_heads(k, 0, 1, 16, cos, sin, (7 + shift) % 64)
        products.append(float(q @ k))
    assert products == pytest.approx([products[0]] * 3, rel=1e-4)


@pytest.mark.parametrize(("width", "expected"), [(0, 16), (1, 16), (16, 16), (17, 32), (64, 64)])
def test_widths_are_padded_to_whole_vectors(width, expected):
    assert padded(width) == expected


def fingerprint():
    """Bits of whole decisions of a random model on a random log."""
    from models.domain.catalogue import Ad, Catalogue
    from models.scorer.config import ModelConfig
    from models.scorer.interface import HistoryTable
    from models.scorer.serving import TransformerScorer
    from models.scorer.weights import blank_tensors

    rng = np.random.default_rng(0)
    config = ModelConfig(vocabulary=50, d_model=48, heads=2, window=9, rotary_length=32, head_width=20)
    tensors = blank_tensors(config)
    for name, value in tensors.items():
        if value.dtype == np.float32:
            tensors[name] = (value + 0.3 * rng.standard_normal(value.shape)).astype(np.float32)
    one = TransformerScorer(config, tensors, "test")
    history, rows = HistoryTable.empty(8, one.history_length), np.arange(8)
    history.ad_key[:] = rng.integers(1, 60, history.ad_key.shape)
    history.time_ms[:] = rng.integers(0, 10**8, history.time_ms.shape)
    history.count[:] = rng.integers(0, 100, 8)
    index = one.index(Catalogue().upsert([Ad(ad_id=f"ad-{i}", campaign_id="c") for i in range(500)]))
    users = one.encode(history, rows, rows * 0)
    words = rng.integers(0, 2**64, (8, 8), dtype=np.uint64) & np.uint64((1 << 52) - 1)
    bias = rng.standard_normal((1, 500)).astype(np.float32)
    found, scores = one.retrieve(users, index, bias, rows * 0, words, 20)
    answers = (users, found, scores, *one.rank(history, rows, users, index, found))
    return hashlib.sha256(b"".join(a.tobytes() for a in answers)).hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="names x86 machines that numba compiles for")
@pytest.mark.parametrize(
    ("machine", "features"), [("haswell", "+avx2,+fma"), ("skylake-avx512", "+avx512f,+avx512bw,+fma")]
)
def test_machines_with_other_vector_instructions_give_the_same_bits(tmp_path, machine, features):
    if os.uname().machine != "x86_64":
        pytest.skip("needs an x86-64 machine")
    code = "from test_serving_kernels import fingerprint; print(fingerprint())"
    environment = os.environ | {
        "NUMBA_CPU_NAME": machine,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),  # noqa: PTH120
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == fingerprint()
