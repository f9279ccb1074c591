"""What the rules read of the ads, as arrays: built once, then patched where ads changed.

Unlike the codes of a `Catalogue`, the codes here never change their meaning between patches, so a
change of ten ads costs a comparison of identities and ten rows.

Legend: A ads, G = MAX_SEPARATIONS, C contents (category and labels), L the most labels of one, and 1.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import NO_END, Ad, approved
from models.domain.ids import NO_KEY, key64

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

MAX_SEPARATIONS = 4
SEPARATE = "separate:"
"""Prefix of labels that name a competitive separation group: ``separate:cars``."""

_REBUILD_GROWTH = 1_024


@dataclass(frozen=True)
class Names:
    """Codes given to names so far, each vocabulary in order of first appearance."""

    campaigns: dict[str, int] = field(default_factory=dict)
    advertisers: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    contents: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Category and labels of an ad, as one name."""
    targets: dict[str, int] = field(default_factory=dict)
    placements: dict[tuple[str, ...], int] = field(default_factory=dict)
    separations: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Names:
        """Return a copy that may be extended."""
        return Names(**{f.name: dict(getattr(self, f.name)) for f in fields(self)})

    def size(self) -> int:
        """Return how many names there are."""
        return sum(len(getattr(self, f.name)) for f in fields(self))


@dataclass(frozen=True, eq=False)
class AdColumns:
    """The ads of a catalogue as arrays; row i belongs to ``ads[i]``."""

    ads: tuple[Ad, ...]
    names: Names
    built_names: int
    """Size of the vocabularies at the last full build; grown to twice that, they are built anew."""
    labels: I32
    """`[C, L]` codes of a content's labels, each once, -1 after the last."""
    key: U64
    """`[A]` stable key of the ad id."""
    campaign: I32
    """`[A]`"""
    advertiser: I32
    """`[A]` -1 for none."""
    category: I32
    """`[A]` -1 for none."""
    content: I32
    """`[A]`"""
    target: I32
    """`[A]`"""
    placement: I32
    """`[A]` code of the set of placements; the empty set means everywhere."""
    start_time: I64
    """`[A]`"""
    end_time: I64
    """`[A]`"""
    approved: NDArray[np.bool_]
    """`[A]` the ad has no creatives, or one that may be shown."""
    separation: I32
    """`[A, G]` groups in which it competes, -1 for none."""


_ARRAYS = tuple(f.name for f in fields(AdColumns))[4:]


def columns_of(ads: tuple[Ad, ...], previous: AdColumns | None = None) -> AdColumns:
    """Return the columns of these ads, reusing the rows of ``previous`` that hold the same objects."""
    if previous is None or len(ads) < len(previous.ads):
        return _build(ads)
    if ads is previous.ads:
        return previous
    old = len(previous.ads)
    changed = [row for row in range(old) if ads[row] is not previous.ads[row]]
    changed.extend(range(old, len(ads)))
    if not changed:
        return replace(previous, ads=ads)
    if previous.names.size() > 2 * previous.built_names + _REBUILD_GROWTH:
        return _build(ads)
    return _patch(ads, changed, previous)


def _build(ads: tuple[Ad, ...]) -> AdColumns:
    names = Names()
    arrays = _arrays(ads, names)
    labels = label_table(names.contents, names.labels)
    return AdColumns(ads=ads, names=names, built_names=names.size(), labels=labels, **arrays)


def _patch(ads: tuple[Ad, ...], changed: Sequence[int], previous: AdColumns) -> AdColumns:
    names = previous.names.copy()
    rows = np.array(changed, np.int64)
    arrays = {}
    for name, values in _arrays([ads[row] for row in changed], names).items():
        column = np.empty((len(ads), *values.shape[1:]), values.dtype)
        column[: len(previous.ads)] = getattr(previous, name)
        column[rows] = values
        arrays[name] = column
    labels = label_table(names.contents, names.labels, previous.labels)
    return AdColumns(ads=ads, names=names, built_names=previous.built_names, labels=labels, **arrays)


def _arrays(ads: Sequence[Ad], names: Names) -> dict[str, NDArray[Any]]:
    """Return the columns of these ads by name, extending the vocabularies."""

    def codes(vocabulary: dict[Any, int], values: Sequence[Hashable], none: Hashable = None) -> I32:
        found = (-1 if v == none else vocabulary.setdefault(v, len(vocabulary)) for v in values)
        return np.fromiter(found, np.int32, len(ads))

    arrays = (
        np.fromiter((key64(ad.ad_id) for ad in ads), np.uint64, len(ads)),
        codes(names.campaigns, [ad.campaign_id for ad in ads]),
        codes(names.advertisers, [ad.advertiser_id for ad in ads], none=""),
        codes(names.categories, [ad.category for ad in ads], none=""),
        codes(names.contents, [(ad.category, *ad.labels) for ad in ads]),
        codes(names.targets, [ad.targeting for ad in ads]),
        codes(names.placements, [ad.placements for ad in ads]),
        np.fromiter((ad.start_time or 0 for ad in ads), np.int64, len(ads)),
        np.fromiter((NO_END if ad.end_time is None else ad.end_time for ad in ads), np.int64, len(ads)),
        np.fromiter((is_presentable(ad) for ad in ads), np.bool_, len(ads)),
        _separations(ads, names.separations),
    )
    return dict(zip(_ARRAYS, arrays, strict=True))


def is_presentable(ad: Ad) -> bool:
    """Return whether the ad has no creatives (it is shown as it stands) or an approved one."""
    return not ad.creatives or bool(approved(ad))


def _separations(ads: Sequence[Ad], vocabulary: dict[str, int]) -> I32:
    groups = np.full((len(ads), MAX_SEPARATIONS), -1, np.int32)
    for row, ad in enumerate(ads):
        if ad.labels:
            mine = [label for label in ad.labels if label.startswith(SEPARATE)][:MAX_SEPARATIONS]
            groups[row, : len(mine)] = [vocabulary.setdefault(label, len(vocabulary)) for label in mine]
    return groups


def label_table(
    contents: Collection[tuple[str, ...]], vocabulary: dict[str, int], known: I32 | None = None
) -> I32:
    """Return the labels of contents (a category, then labels) as codes `[C, L]`, extending the vocabulary.

    ``known`` holds the rows of the first contents, from before the others came.
    """
    before = np.full((0, 1), -1, np.int32) if known is None else known
    added = [list(dict.fromkeys(labels)) for _, *labels in islice(contents, len(before), None)]
    width = max(before.shape[1], *(len(labels) + 1 for labels in added), 1)
    table = np.full((len(contents), width), -1, np.int32)
    table[: len(before), : before.shape[1]] = before
    for row, labels in enumerate(added, len(before)):
        table[row, : len(labels)] = [vocabulary.setdefault(label, len(vocabulary)) for label in labels]
    return table


def keys_of(names: Sequence[str]) -> U64:
    """Return the stable key `[N]` of each name; the empty name's is NO_KEY."""
    return np.fromiter((key64(name) if name else NO_KEY for name in names), np.uint64, len(names))
