"""The network's maths, row by row, for numba: the streaming twin of transformer.py.

Every result depends on its own row alone: sums run in a fixed order (see simd.py), and working on
several rows at once only keeps weights in the cache. All widths are multiples of LANES; padding is zeros.
Arrays are C-contiguous float32, addressed as (array, flat offset, row stride); those written are flat.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .simd import block_1x1, block_1x2, block_1x4, block_1x8, block_4x1, block_4x2, dot, softmax_slots

F32 = NDArray[np.float32]

NORM_EPSILON = np.float32(1e-6)


@njit(cache=True)
def multiply(
    x: F32, x_at: int, x_stride: int, w: F32, w_at: int, n_in: int, n_out: int, out: F32, out_at: int,
    out_stride: int, rows: int,
) -> None:  # fmt: skip
    """Write ``out = x w`` for ``rows`` rows; w is `[n_in, n_out]`, ``n_out`` a multiple of LANES."""
    fours = rows - rows % 4
    pairs = n_out - n_out % 32
    if fours > 0:
        for j in range(0, pairs, 32):
            for r in range(0, fours, 4):
                block_4x2(
                    x, x_at + r * x_stride, x_stride, w, w_at + j, n_out, n_in,
                    out, out_at + r * out_stride + j, out_stride,
                )  # fmt: skip
        for j in range(pairs, n_out, 16):
            for r in range(0, fours, 4):
                block_4x1(
                    x, x_at + r * x_stride, x_stride, w, w_at + j, n_out, n_in,
                    out, out_at + r * out_stride + j, out_stride,
                )  # fmt: skip
    for r in range(fours, rows):
        _multiply_row(x, x_at + r * x_stride, w, w_at, n_in, n_out, out, out_at + r * out_stride)


@njit(cache=True)
def _multiply_row(x: F32, x_at: int, w: F32, w_at: int, n_in: int, n_out: int, out: F32, out_at: int) -> None:
    j = 0
    while n_out - j >= 128:
        block_1x8(x, x_at, 0, w, w_at + j, n_out, n_in, out, out_at + j, 0)
        j += 128
    if n_out - j >= 64:
        block_1x4(x, x_at, 0, w, w_at + j, n_out, n_in, out, out_at + j, 0)
        j += 64
    if n_out - j >= 32:
        block_1x2(x, x_at, 0, w, w_at + j, n_out, n_in, out, out_at + j, 0)
        j += 32
    if n_out - j >= 16:
        block_1x1(x, x_at, 0, w, w_at + j, n_out, n_in, out, out_at + j, 0)


@njit(cache=True)
def rms_norm(x: F32, at: int, weight: F32, weight_at: int, out: F32, size: int, width: int) -> None:
    """Write ``x / sqrt(mean(x^2) + eps) * weight`` of a row of ``width``, of which ``size`` is no padding."""
    mean = dot(x, at, x, at, width) / np.float32(size)
    scale = np.float32(1.0) / np.sqrt(mean + NORM_EPSILON)
    for d in range(width):
        out[at + d] = x[at + d] * scale * weight[weight_at + d]


@njit(cache=True)
def add_to(x: F32, added: F32, size: int) -> None:
    """Add the first ``size`` floats of ``added`` to those of ``x``."""
    for d in range(size):
        x[d] += added[d]


@njit(cache=True)
def relu(x: F32, size: int) -> None:
    """Replace negative numbers among the first ``size`` floats by 0."""
    for d in range(size):
        x[d] = max(x[d], np.float32(0.0))


@njit(cache=True)
def attend(
    q: F32, q_at: int, q_stride: int, keys: F32, keys_at: int, values: F32, values_at: int, newest: int,
    seen: int, ring: int, width: int, scores: F32, out: F32, out_at: int, out_stride: int, rows: int,
) -> None:  # fmt: skip
    """Write one head's attention of ``rows`` queries over a ring of keys `[E, ring]`, values `[ring, E]`.

    ``newest`` is the slot of the latest event. Masked slots weigh exactly 0; their contents could only
    change the sign of a zero, which the ``+ 0`` removes. ``scores`` is room for rows * (ring + 1) floats.
    """
    multiply(q, q_at, q_stride, keys, keys_at, width, ring, scores, 0, ring, rows)
    for r in range(rows):
        scores[rows * ring + r] = softmax_slots(scores, r * ring, newest, seen, ring)
    multiply(scores, 0, ring, values, values_at, ring, width, out, out_at, out_stride, rows)
    for r in range(rows):
        scale = np.float32(1.0) / scores[rows * ring + r]
        at = out_at + r * out_stride
        for d in range(at, at + width):
            out[d] = out[d] * scale + np.float32(0.0)


@njit(cache=True)
def rotate_heads(x: F32, at: int, heads: int, width: int, cos: F32, sin: F32, position: int) -> None:
    """Rotate the pairs (i, i + E/2) of each head in place by the angles of ``position``."""
    half = width // 2
    for h in range(heads):
        base = at + h * width
        for i in range(half):
            a, b = x[base + i], x[base + half + i]
            c, s = cos[position, i], sin[position, i]
            x[base + i] = a * c - b * s
            x[base + half + i] = b * c + a * s
