"""The scorer of a flow without a trained model: every user the same, ads by their log popularity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from models.domain.catalogue import Ad, Catalogue
from models.domain.ids import content_hash, key64

from .ad_index import AdRows, CatalogueIndex, catalogue_index
from .config import TYPICAL_PCVR
from .features import vocabulary_rows
from .interface import HistoryTable
from .leanings import no_leanings
from .retrieval import top_k
from .segments import no_segments

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class PopularityScorer:
    """Implements `models.scorer.interface.Scorer` with empty user vectors.

    It suits the first minutes of a system and every comparison; the adjustments learned online do the
    personalising. Logits of click are the ad's bias plus `base_logit`; those of conversion `base_logit`.

    Parameters
    ----------
    keys
        `[V]` sorted stable keys of the ads whose popularity is known.
    log_popularity
        `[V + 1]` log popularity, row 0 for all other ads; zeros make every ad equal.
    base_logit
        Logit of the base rate that is assumed of clicks and of conversions.

    """

    history_length = 1
    segments = no_segments()
    conversion_slope = adjustment_slope = 0.0

    def __init__(
        self, keys: U64 | None = None, log_popularity: F32 | None = None, base_logit: float = -4.0
    ) -> None:
        self._keys = np.zeros(0, np.uint64) if keys is None else keys
        self._log_popularity = np.zeros(1, np.float32) if log_popularity is None else log_popularity
        self._base_logit = np.float32(base_logit)
        content = self._keys.tobytes() + self._log_popularity.tobytes() + self._base_logit.tobytes()
        self.leanings = no_leanings()
        self.model_hash = f"popularity-{content_hash(content)}"

    def index(self, catalogue: Catalogue, previous: Any = None) -> CatalogueIndex:
        """Return the catalogue's index; see `models.scorer.interface.Scorer.index`."""
        return catalogue_index(catalogue, self._tower, self.model_hash, previous)

    def _tower(self, ads: Sequence[Ad]) -> AdRows:
        keys = np.fromiter((key64(ad.ad_id) for ad in ads), np.uint64, count=len(ads))
        known = vocabulary_rows(self._keys, keys)
        bias = self._log_popularity[known].astype(np.float32)
        none = np.zeros((len(ads), 0), np.float32)
        typical = np.full(len(ads), logit(TYPICAL_PCVR), np.float32)
        return AdRows(none, bias, none, none, known, typical)

    def encode(self, history: HistoryTable, rows: I64, times: I64) -> F32:
        """Return empty vectors `[B, 0]`."""
        return np.zeros((len(rows), 0), np.float32)

    def retrieve(
        self, users: F32, ads: CatalogueIndex, bias: F32, bias_row: I64, eligible: U64, k: int
    ) -> tuple[I32, F32]:
        """Return the exact top ``k`` by bias; see `models.scorer.interface.Scorer.retrieve`."""
        return top_k(users, ads.scan, bias, bias_row, eligible, k)

    def rank(
        self, history: HistoryTable, rows: I64, users: F32, ads: CatalogueIndex, candidates: I32
    ) -> tuple[F32, F32]:
        """Return logits by popularity alone; see `models.scorer.interface.Scorer.rank`."""
        none = candidates < 0
        known = np.append(ads.bias, np.float32(0))[candidates]  # row -1 reads the 0 put last
        click = np.where(none, -np.inf, known + self._base_logit).astype(np.float32)
        conversion = np.where(none, -np.inf, self._base_logit).astype(np.float32)
        return click, conversion

    def dwell_ms(
        self, history: HistoryTable, rows: I64, users: F32, ads: CatalogueIndex, candidates: I32
    ) -> None:
        """Return None: popularity says nothing of how long users stay."""
