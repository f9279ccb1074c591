"""A catalogue under one model: what retrieval and ranking need of each ad, kept up to date by rows.

Legend: A ads, R rows that changed, D width of the model, M width of the second stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_not
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import Ad, Catalogue

from .retrieval import ScanIndex, scan_index, updated_index

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class AdRows(NamedTuple):
    """What a model says of some ads."""

    vectors: F32
    """`[R, D]`"""
    bias: F32
    """`[R]`"""
    queries: F32
    """`[R, H Ep]` queries of the target attention, scaled, heads padded."""
    halves: F32
    """`[R, M + 2]` the ad's own part of the second stage's first layer, of conversion and of click logits."""
    known: I64
    """`[R]` rows of the model's ad table, 0 for an unknown ad."""
    conversion: F32
    """`[R]` logit of a click's conversion, for users to whom the ad is likely to be shown."""


Tower = Callable[[Sequence[Ad]], AdRows]
"""Computes the rows of ads; each row may depend on its ad alone, to the last bit."""


@dataclass(frozen=True, eq=False)
class CatalogueIndex:
    """All ads of a catalogue under one model; implements `models.scorer.interface.AdIndex`."""

    catalogue_version: str
    vectors: F32
    """`[A, D]`, a view of ``scan.vectors`` where D needs no padding."""
    bias: F32
    """`[A]`, a view of ``scan.bias``."""
    queries: F32
    """`[A, H Ep]`"""
    halves: F32
    """`[A, M + 2]`"""
    known: I64
    """`[A]` row of the model's ad table."""
    conversion: F32
    """`[A]`"""
    scan: ScanIndex
    owner: str
    """Hash of the model that computed the rows."""
    _ads: tuple[Ad, ...] = field(repr=False, default=())

    def __len__(self) -> int:
        return len(self._ads)

    @cached_property
    def place(self) -> I32:
        """`[.]` row of the catalogue of each row of the ad table up to the last one used, -1 for none."""
        place = np.full(int(self.known.max(initial=0)) + 1, -1, np.int32)
        place[self.known] = np.arange(len(self.known))
        place[0] = -1
        return place


def catalogue_index(catalogue: Catalogue, tower: Tower, owner: str, previous: Any = None) -> CatalogueIndex:
    """Return the index of a catalogue; rows of ``previous`` whose ad is the same object are kept.

    A ``previous`` of another model or another kind of index is ignored. The result is the same, bit
    for bit, with and without it.
    """
    if isinstance(previous, CatalogueIndex) and previous.owner == owner:
        changed = _changed_rows(previous._ads, catalogue.ads)
        if len(changed) == 0 and len(previous) == len(catalogue):
            return replace(previous, catalogue_version=catalogue.version, _ads=catalogue.ads)
        if len(previous) <= len(catalogue) and 2 * len(changed) < len(catalogue):
            return _updated(previous, catalogue, tower, changed)
    rows = tower(catalogue.ads)
    return _assembled(catalogue, owner, rows, scan_index(rows.vectors, rows.bias))


def _assembled(catalogue: Catalogue, owner: str, rows: AdRows, scan: ScanIndex) -> CatalogueIndex:
    return CatalogueIndex(
        catalogue_version=catalogue.version,
        vectors=np.ascontiguousarray(scan.vectors[: len(catalogue), : rows.vectors.shape[1]]),
        bias=scan.bias[: len(catalogue)],
        queries=rows.queries,
        halves=rows.halves,
        known=rows.known,
        conversion=rows.conversion,
        scan=scan,
        owner=owner,
        _ads=catalogue.ads,
    )


def _changed_rows(before: tuple[Ad, ...], after: tuple[Ad, ...]) -> I64:
    """Return the rows whose ad is not the very same object as before, new ones included."""
    if before is after:
        return np.zeros(0, np.int64)
    both = min(len(before), len(after))
    differs = np.fromiter(map(is_not, before, after), np.bool_, count=both)
    return np.concatenate([np.flatnonzero(differs), np.arange(both, len(after))])


def _updated(previous: CatalogueIndex, catalogue: Catalogue, tower: Tower, changed: I64) -> CatalogueIndex:
    fresh = tower([catalogue.ads[row] for row in changed])
    scan = updated_index(previous.scan, len(catalogue), changed, fresh.vectors, fresh.bias)
    queries = _merged(previous.queries, fresh.queries, len(catalogue), changed)
    halves = _merged(previous.halves, fresh.halves, len(catalogue), changed)
    known = _merged(previous.known, fresh.known, len(catalogue), changed)
    conversion = _merged(previous.conversion, fresh.conversion, len(catalogue), changed)
    rows = AdRows(fresh.vectors, fresh.bias, queries, halves, known, conversion)
    return _assembled(catalogue, previous.owner, rows, scan)


def _merged(old: NDArray[Any], fresh: NDArray[Any], size: int, rows: I64) -> NDArray[Any]:
    merged = np.empty((size, *old.shape[1:]), old.dtype)
    merged[: len(old)] = old
    merged[rows] = fresh
    return merged
