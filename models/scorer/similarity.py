"""The floor for cold items: how much an item's content is like that of the user's last items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cooccurrence import recent_events
from .sequences import F32, I64, Interactions
from .vectors import normalised

RECENT = 10

ItemScores = Callable[[I64], F32]


def similarity_scores(interactions: Interactions, content: F32) -> ItemScores:
    """Return the baseline that learns nothing: cosine of an item and the mean of the last RECENT ones.

    ``content`` `[A, F]` is in the order of ``interactions.item_ids``; histories are everything but each
    user's last item.
    """
    history = interactions.without_last(1)
    padded = np.concatenate((np.zeros((1, content.shape[1]), np.float32), content))

    def scores(users: I64) -> F32:
        recent = recent_events(history.offsets, history.item + 1, users, RECENT)  # [B, RECENT]
        return normalised(padded[recent].mean(axis=1)) @ content.T

    return scores
