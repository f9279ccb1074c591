"""Bernoulli Thompson sampling without context, as a policy to evaluate on a bandit log."""

from __future__ import annotations

import numpy as np

from models.domain.errors import SettingError

from .draws import F64

_DRAWS_AT_ONCE = 10_000


def slot_chances(alpha: F64, beta: F64, slots: int, *, draws: int = 100_000, seed: int = 0) -> F64:
    """Return the chance of each item in each slot `[slots, I]`, by so many draws of every item's click rate.

    Each draw ranks the items by a sample from Beta(alpha, beta) and fills the slots from the top, as the
    policy of the Open Bandit Dataset did (Chapelle & Li, NIPS'11; Saito et al. 2020).

    Raises
    ------
    SettingError
        The parameters are not positive, not as many, or fewer than the slots.

    """
    if len(alpha) != len(beta) or len(alpha) < slots or not ((alpha > 0).all() and (beta > 0).all()):
        raise SettingError.expected(
            "Beta parameters", got=f"{len(alpha)} alpha, {len(beta)} beta", fix="give one of each per item",
            expected=f"as many positive alpha as beta, {slots} or more",
        )  # fmt: skip
    rng, counts = np.random.default_rng(seed), np.zeros((slots, len(alpha)))
    for start in range(0, draws, _DRAWS_AT_ONCE):
        rates = rng.beta(alpha, beta, (min(_DRAWS_AT_ONCE, draws - start), len(alpha)))
        best = np.argpartition(-rates, slots - 1, axis=1)[:, :slots]
        order = np.argsort(-np.take_along_axis(rates, best, axis=1), axis=1)
        ranked = np.take_along_axis(best, order, axis=1)
        for slot in range(slots):
            counts[slot] += np.bincount(ranked[:, slot], minlength=len(alpha))
    return counts / draws
