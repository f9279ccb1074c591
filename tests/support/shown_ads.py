"""A small log of impressions to train on."""

from __future__ import annotations

import numpy as np

from models.scorer.sequences import NEVER, AdTable, LogExamples


def examples(users: int = 120, length: int = 24, seed: int = 0) -> LogExamples:
    """Users who were shown 12 ads of 3 campaigns in 4 slots, each looked at half as often as the last."""
    draw = np.random.default_rng(seed)
    shown, slot = draw.integers(0, 12, (users, length)), draw.integers(0, 4, (users, length))
    appeal = np.array([0.3, 0.15, 0.04])
    click = draw.random((users, length)) < appeal[shown % 3] * 0.5**slot
    conversion = click & (draw.random((users, length)) < 0.4)
    time_ms = np.arange(length) * 60_000 + draw.integers(0, 1000, (users, 1))
    keys, category = np.arange(100, 112, dtype=np.uint64), np.full(12, 7, np.uint64)
    campaign = np.arange(12, dtype=np.uint64) % 3 + 50
    flat = time_ms.ravel()
    return LogExamples(
        offsets=np.arange(users + 1) * length, ad_key=keys[shown].ravel(),
        category_key=np.full(users * length, 7, np.uint64), kind=np.full(users * length, 3, np.uint8),
        dwell_ms=np.zeros(users * length, np.int64), time_ms=flat,
        ads=AdTable(keys, category, ("",) * 12, None, campaign),
        impression_user=np.repeat(np.arange(users), length),
        impression_position=np.tile(np.arange(length), users),
        impression_ad_key=keys[shown].ravel(), impression_time_ms=flat,
        click=click.ravel(), conversion=conversion.ravel(), slot=slot.ravel(),
        click_time_ms=np.where(click.ravel(), flat + 1000, NEVER),
        conversion_time_ms=np.where(conversion.ravel(), flat + 31_000, NEVER),
    )  # fmt: skip
