"""What a model knows of campaigns: how often ads that it has never seen are clicked, and how that converts.

An ad of the vocabulary has rates of its own, shrunk to its campaign's (`rates`, `refit`). A new ad of a known
campaign has none, and what is known of its campaign is where it begins.

Legend: N campaigns, R ads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError
from models.domain.ids import label_key

from .features import vocabulary_rows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

CAMPAIGN_KEYS = "campaign_keys"
CAMPAIGN_CONVERSION, CAMPAIGN_CLICK = "campaign_conversion", "campaign_click"


class OfNew(NamedTuple):
    """What is added to ads `[R]` for their campaigns' sake, 0 for those with a row of their own."""

    click: F32
    """To the ad's bias,"""
    conversion: F32
    """to the conversion logit."""


@dataclass(frozen=True, eq=False)
class CampaignTable:
    """Log odds of conversion and of clicks by campaign, beyond the mean; ``keys`` `[N]` ascending.

    Those of clicks are in units of the ads' biases.
    """

    keys: U64
    conversion: F32
    click: F32

    def __post_init__(self) -> None:
        odds = (self.conversion, self.click)
        right = self.keys.dtype == np.uint64 and all(one.dtype == np.float32 for one in odds)
        ascending = bool((self.keys[1:] > self.keys[:-1]).all())
        if not (
            right and ascending and {self.keys.shape, *(one.shape for one in odds)} == {(len(self.keys),)}
        ):
            shapes = ", ".join(str(one.shape) for one in (self.keys, *odds))
            raise ArtifactError.expected(
                "campaign table", got=f"keys, conversion, click {shapes}",
                expected="N ascending keys and float32 [N] twice", fix="train the model again",
            )  # fmt: skip
        if not all(np.isfinite(one).all() for one in odds):
            raise ArtifactError.expected(
                "campaign table", got="NaN or infinity", expected="finite numbers", fix="train again"
            )

    def of_new(self, ads: Sequence[Ad], rows: I64) -> OfNew:
        """Return what the campaigns of ads `[R]` say of those whose ``rows`` `[R]` of the ad table are 0."""
        added = OfNew(np.zeros(len(ads), np.float32), np.zeros(len(ads), np.float32))
        new = np.flatnonzero(rows == 0)
        if len(new) and len(self.keys):
            keys = np.fromiter((label_key(ads[int(at)].campaign_id) for at in new), np.uint64, count=len(new))
            known = vocabulary_rows(self.keys, keys)
            for out, odds in zip(added, (self.click, self.conversion), strict=True):
                out[new] = np.append(np.float32(0), odds)[known]
        return added

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the table as tensors of a model; none where it is empty."""
        if not len(self.keys):
            return {}
        return {CAMPAIGN_KEYS: self.keys, CAMPAIGN_CONVERSION: self.conversion, CAMPAIGN_CLICK: self.click}


def no_campaigns() -> CampaignTable:
    """Return the table of a model that knows no campaign."""
    nothing = np.zeros(0, np.float32)
    return CampaignTable(np.zeros(0, np.uint64), nothing, nothing)


def stored_campaigns(tensors: Mapping[str, NDArray[Any]]) -> CampaignTable:
    """Return the table among a model's tensors; ArtifactError where it is damaged."""
    if CAMPAIGN_KEYS not in tensors:
        return no_campaigns()
    keys = tensors[CAMPAIGN_KEYS]
    conversion = tensors.get(CAMPAIGN_CONVERSION, np.zeros(0, np.float32))
    click = tensors.get(CAMPAIGN_CLICK, np.zeros(len(keys), np.float32))  # models of before had none
    return CampaignTable(keys, np.ascontiguousarray(conversion), np.ascontiguousarray(click))
