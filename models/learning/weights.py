"""The learned adjustments in force, as a value: what the chain of `Adjustments` records amounts to.

`models.learning.compiled` lays it out as arrays for the decision path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from models.domain.errors import ArtifactError, BadRecord
from models.domain.events import Adjustments, Weight, is_stale

from .priors import DEFAULT_PRIORS, Priors

_SCHEMA = 1
_LARGEST = 50.0
"""Logits beyond this are not adjustments but an accident upstream."""
WIDEST = 100.0
"""The same for variances; a Thompson draw from the sum of all parts at this one stays a finite logit."""
_STEEPEST = 4.0


def cell_of(segment: str) -> str:
    """Return a segment's name in keys: a ``|`` in it becomes ``/``."""
    return segment.replace("|", "/")


def segment_category_key(segment: str, category: str) -> str:
    """Return the key of ``Adjustments.segment_categories``."""
    return f"{cell_of(segment)}|{category}"


class Applied(NamedTuple):
    """The table after a record; ``stale`` when the record was of an old version and changed nothing."""

    table: WeightTable
    stale: bool


@dataclass(frozen=True, eq=False)
class WeightTable:
    """All adjustments in force, (mean, variance) in logits by key.

    ``digest`` identifies the contents: it hashes the chain of the records applied.
    """

    version: int = 0
    digest: str = "0" * 16
    engine: str = ""
    bias: Weight | None = None
    ads: Mapping[str, Weight] = field(default_factory=dict)
    campaigns: Mapping[str, Weight] = field(default_factory=dict)
    segment_categories: Mapping[str, Weight] = field(default_factory=dict)
    conversions: Mapping[str, Weight] = field(default_factory=dict)
    position_logits: tuple[float, ...] = ()
    creatives: Mapping[str, Weight] = field(default_factory=dict)
    calibration: tuple[float, float] = (1.0, 0.0)
    """Slope and centre of the click logits."""
    segment_creatives: Mapping[str, Weight] = field(default_factory=dict)

    def apply(self, record: Adjustments, priors: Priors = DEFAULT_PRIORS) -> Applied:
        """Return the table with this record's weights laid over this one's.

        A version that is not above the one in force is stale and ignored. ``reset`` forgets everything
        but the position logits, which the log measured and the weights did not. A weight that is the prior
        is what an absent one counts as, and goes: so the table holds as many as the learner does, no more.

        Raises
        ------
        BadRecord
            ``bad_value`` where a weight is not finite, a variance is not within 0..100 or a mean is beyond
            ±50 logits; the table in force stays.

        """
        if is_stale(record, self.version):
            return Applied(self, True)
        _check(record)
        old = WeightTable(position_logits=self.position_logits) if record.reset else self
        table = WeightTable(
            version=record.version,
            digest=chained(self.digest, record),
            engine=record.engine,
            bias=old.bias if record.bias is None else record.bias,
            ads=_overlay(old.ads, record.ads, priors.ad),
            campaigns=_overlay(old.campaigns, record.campaigns, priors.campaign),
            segment_categories=_overlay(
                old.segment_categories, record.segment_categories, priors.segment_category
            ),
            conversions=_overlay(old.conversions, record.conversions, 0.0),
            position_logits=old.position_logits if record.position_logits is None else record.position_logits,
            creatives=_overlay(old.creatives, record.creatives, priors.creative),
            calibration=old.calibration if record.calibration is None else record.calibration,
            segment_creatives=_overlay(
                old.segment_creatives, record.segment_creatives, priors.segment_creative
            ),
        )
        return Applied(table, False)

    def to_bytes(self) -> bytes:
        """Return the table as MessagePack, for snapshots."""
        return msgspec.msgpack.encode(_Stored(_SCHEMA, *(getattr(self, f.name) for f in fields(self))))

    @classmethod
    def from_bytes(cls, data: bytes) -> WeightTable:
        """Read `to_bytes` back; raises ArtifactError for damaged bytes or another schema."""
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except msgspec.DecodeError as error:
            raise ArtifactError(
                f"weight table: got unreadable bytes ({error}). Fix: drop the snapshot."
            ) from None
        if stored.schema != _SCHEMA:
            raise ArtifactError.expected(
                "weight table schema", got=stored.schema, expected=str(_SCHEMA), fix="replay the log"
            )
        return cls(*(getattr(stored, f.name) for f in fields(cls)))


class _Stored(msgspec.Struct):
    schema: int
    version: int
    digest: str
    engine: str
    bias: Weight | None
    ads: Mapping[str, Weight]
    campaigns: Mapping[str, Weight]
    segment_categories: Mapping[str, Weight]
    conversions: Mapping[str, Weight]
    position_logits: tuple[float, ...]
    creatives: Mapping[str, Weight] = {}
    calibration: tuple[float, float] = (1.0, 0.0)
    segment_creatives: Mapping[str, Weight] = {}


def _overlay(
    old: Mapping[str, Weight], new: Mapping[str, Weight], prior_variance: float
) -> Mapping[str, Weight]:
    if not new:
        return old
    merged = {**old, **new}
    for key, weight in new.items():
        if weight == (0.0, prior_variance):
            del merged[key]
    return merged


def chained(digest: str, record: Adjustments) -> str:
    """Return the digest of a table after this record, from the one before it."""
    return blake2b(digest.encode() + msgspec.msgpack.encode(record), digest_size=8).hexdigest()


def _check(record: Adjustments) -> None:
    groups = (
        record.ads,
        record.campaigns,
        record.segment_categories,
        record.conversions,
        record.creatives,
        record.segment_creatives,
    )
    weights: Iterable[tuple[str, Weight]] = (item for group in groups for item in group.items())
    for key, (mean, variance) in [*weights, ("bias", record.bias or (0.0, 0.0))]:
        if not (abs(mean) <= _LARGEST and 0.0 <= variance <= WIDEST):
            raise BadRecord(
                "bad_value",
                f"adjustment of {key!r}: got {(mean, variance)}, expected a finite mean within ±50 logits "
                f"and a variance within 0..{WIDEST:g}. Fix: roll the learner back.",
            )
    slope, centre = record.calibration or (1.0, 0.0)
    if not (0.0 <= slope <= _STEEPEST and abs(centre) <= _LARGEST):
        raise BadRecord(
            "bad_value",
            f"calibration: got {(slope, centre)}, expected a slope within 0..{_STEEPEST:g} and a centre "
            "within ±50 logits. Fix: roll the learner back.",
        )
    if not all(abs(logit) <= _LARGEST for logit in record.position_logits or ()):
        raise BadRecord(
            "bad_value",
            f"position_logits: got {record.position_logits}, expected finite logits within ±50. "
            "Fix: roll the learner back.",
        )
