"""Counter-based random numbers: a draw is a pure function of (seed, key, stream), never of a state.

So a draw does not depend on the batch, on the order of the candidates or on what was drawn before,
and a replay makes the same ones. The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood,
OOPSLA '14), chained over the three counters; normals invert the CDF by Wichura's AS 241.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)

_CENTRE = (
    (
        2509.0809287301227, 33430.57558358813, 67265.7709270087, 45921.95393154987,
        13731.69376550946, 1971.5909503065513, 133.14166789178438, 3.3871328727963665,
    ),
    (
        5226.495278852854, 28729.085735721943, 39307.89580009271, 21213.794301586597,
        5394.196021424751, 687.1870074920579, 42.31333070160091, 1.0,
    ),
)  # fmt: skip
_TAIL = (
    (
        0.0007745450142783414, 0.022723844989269184, 0.2417807251774506, 1.2704582524523684,
        3.6478483247632045, 5.769497221460691, 4.630337846156546, 1.4234371107496835,
    ),
    (
        1.0507500716444169e-09, 0.0005475938084995345, 0.015198666563616457, 0.14810397642748008,
        0.6897673349851, 1.6763848301838038, 2.053191626637759, 1.0,
    ),
)  # fmt: skip
_FAR_TAIL = (
    (
        2.0103343992922881e-07, 2.7115555687434876e-05, 0.0012426609473880784, 0.026532189526576124,
        0.29656057182850487, 1.7848265399172913, 5.463784911164114, 6.657904643501103,
    ),
    (
        2.0442631033899397e-15, 1.421511758316446e-07, 1.8463183175100548e-05, 0.0007868691311456133,
        0.014875361290850615, 0.1369298809227358, 0.599832206555888, 1.0,
    ),
)  # fmt: skip


@njit(cache=True)
def mix64(x: np.uint64) -> np.uint64:
    """Return the SplitMix64 finaliser of a 64-bit counter."""
    x = uint64(x + _GOLDEN)
    x = uint64((x ^ (x >> uint64(30))) * _M1)
    x = uint64((x ^ (x >> uint64(27))) * _M2)
    return x ^ (x >> uint64(31))


@njit(cache=True)
def uniform(seed: np.uint64, key: np.uint64, stream: np.uint64) -> float:
    """Return a uniform draw in the open interval (0, 1), a multiple of 2^-53 plus 2^-54.

    The largest of them would round to 1, whose normal quantile is infinite: it is taken one step down.
    """
    bits = mix64(seed ^ mix64(key ^ mix64(stream)))
    return min((float(bits >> uint64(11)) + 0.5) * 2.0**-53, 1.0 - 2.0**-53)


@njit(cache=True)
def _rational(top: tuple[float, ...], bottom: tuple[float, ...], r: float) -> float:
    num, den = 0.0, 0.0
    for i in range(8):
        num = num * r + top[i]
        den = den * r + bottom[i]
    return num / den


@njit(cache=True)
def normal_quantile(u: float) -> float:
    """Return the standard normal quantile of 0 < u < 1 (AS 241, relative error about 1e-16)."""
    q = u - 0.5
    if abs(q) <= 0.425:
        return q * _rational(_CENTRE[0], _CENTRE[1], 0.180625 - q * q)
    r = math.sqrt(-math.log(min(u, 1.0 - u)))
    far = r > 5.0
    z = _rational(_FAR_TAIL[0], _FAR_TAIL[1], r - 5.0) if far else _rational(_TAIL[0], _TAIL[1], r - 1.6)
    return -z if q < 0.0 else z


@njit(cache=True)
def _uniforms(seed: U64, key: U64, stream: np.uint64) -> F64:
    out = np.empty(key.shape)
    for b in range(key.shape[0]):
        for k in range(key.shape[1]):
            out[b, k] = uniform(seed[b], key[b, k], stream)
    return out


def uniforms(seed: U64, key: U64, stream: int = 0) -> F64:
    """Return uniform draws in (0, 1), one for each (row, key).

    Parameters
    ----------
    seed
        `[B]` uint64, one per decision (`key64` of its id).
    key
        `[B, K]` uint64, one per candidate.
    stream
        Which of the draws of this pair: slot, purpose.

    Returns
    -------
    float64 `[B, K]`

    """
    return _uniforms(seed, key, np.uint64(stream))
