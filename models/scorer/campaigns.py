"""What a model knows of campaigns: how well the clicks of ads convert that it has never seen.

An ad of the vocabulary has a conversion rate of its own, shrunk to its campaign's (`rates`). A new ad of a
known campaign has none, and its campaign's is what counting tells of it. Clicks need no such table: the
network reads a new ad's category and content.

Legend: N campaigns, R ads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError
from models.domain.ids import label_key

from .features import vocabulary_rows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

CAMPAIGN_KEYS, CAMPAIGN_CONVERSION = "campaign_keys", "campaign_conversion"


@dataclass(frozen=True, eq=False)
class CampaignTable:
    """Log odds of conversion by campaign, beyond the mean rate; ``keys`` `[N]` ascending."""

    keys: U64
    conversion: F32

    def __post_init__(self) -> None:
        right = self.keys.dtype == np.uint64 and self.conversion.dtype == np.float32
        ascending = bool((self.keys[1:] > self.keys[:-1]).all())
        if not (right and ascending and self.keys.shape == self.conversion.shape == (len(self.keys),)):
            raise ArtifactError.expected(
                "campaign table", got=f"keys {self.keys.shape}, conversion {self.conversion.shape}",
                expected="N ascending keys and float32 [N]", fix="train the model again",
            )  # fmt: skip
        if not np.isfinite(self.conversion).all():
            raise ArtifactError.expected(
                "campaign table", got="NaN or infinity", expected="finite numbers", fix="train again"
            )

    def of_new(self, ads: Sequence[Ad], rows: I64) -> F32:
        """Return what is added to the conversion logits `[R]`: 0 for ads with a row of their own."""
        out = np.zeros(len(ads), np.float32)
        new = np.flatnonzero(rows == 0)
        if len(new) and len(self.keys):
            keys = np.fromiter((label_key(ads[int(at)].campaign_id) for at in new), np.uint64, count=len(new))
            out[new] = np.concatenate((np.zeros(1, np.float32), self.conversion))[
                vocabulary_rows(self.keys, keys)
            ]
        return out

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the table as tensors of a model; none where it is empty."""
        return {CAMPAIGN_KEYS: self.keys, CAMPAIGN_CONVERSION: self.conversion} if len(self.keys) else {}


def no_campaigns() -> CampaignTable:
    """Return the table of a model that knows no campaign."""
    return CampaignTable(np.zeros(0, np.uint64), np.zeros(0, np.float32))


def stored_campaigns(tensors: Mapping[str, NDArray[Any]]) -> CampaignTable:
    """Return the table among a model's tensors; ArtifactError where it is damaged."""
    if CAMPAIGN_KEYS not in tensors:
        return no_campaigns()
    conversion = tensors.get(CAMPAIGN_CONVERSION, np.zeros(0, np.float32))
    return CampaignTable(tensors[CAMPAIGN_KEYS], np.ascontiguousarray(conversion))
