"""What the learner follows of the control records: ads that come and go with their budgets, and models."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from connectors.artifacts import require_hash
from connectors.codec import EventCodec
from models.decide.validated import split_valid
from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError
from models.domain.events import AdUpsert, AdWithdraw, CatalogueSnapshot, ModelSwitch
from models.domain.log import LogRecord, Rejected
from models.scorer.artifact import read_manifest
from models.scorer.slots import SlotCounts, stored_slots

from .operators import decode_record

AdsOf = Callable[[str], tuple[Ad, ...]]
"""Returns the ads of a catalogue artifact; raises ArtifactError."""
SlotsOf = Callable[[str], SlotCounts | None]
"""Returns what the log behind the model of a hash told of slots; raises ArtifactError."""

REMEMBERED = 16_384
"""Ids of records that are told from those that come again; a shard remembers as many control records."""
_MARKS = (b'"ad_upsert"', b'"ad_withdraw"', b'"catalogue"', b'"model_hash"')

logger = logging.getLogger(__name__)


class Offered(NamedTuple):
    """What a record changes: the ads that come into force with it, and those that are withdrawn.

    ``whole``: the ads are the whole catalogue, all others are gone. ``slots``: what the log of the model
    that comes into force told of slots.
    """

    record_id: str
    ads: tuple[Ad, ...] = ()
    whole: bool = False
    withdrawn: tuple[str, ...] = ()
    slots: SlotCounts | None = None


class OffersOnly:
    """Keeps the changes of catalogue and model of one partition of the log, as the shards take them.

    An ad that `split_valid` refuses is left out, a snapshot that holds one or cannot be opened changes
    nothing: what personalizing refuses with a dead letter must not move a budget here. Its id counts all the
    same, as it does for the shards.
    """

    def __init__(self, codec: EventCodec, ads_of: AdsOf, slots_of: SlotsOf) -> None:
        self._codec, self._ads_of, self._slots_of = codec, ads_of, slots_of

    def __call__(self, records: list[LogRecord]) -> list[Offered]:
        """Return what these records change; user events are skipped without being decoded."""
        marked = (r for r in records if any(mark in (r.value or b"") for mark in _MARKS))
        found = (decode_record(self._codec, record) for record in marked)
        offers = (self._offered(item.event) for item in found if not isinstance(item, Rejected))
        return [offered for offered in offers if offered is not None]

    def _offered(self, event: object) -> Offered | None:
        match event:
            case AdUpsert():
                good, _ = split_valid(event.ads)
                return Offered(event.id, good)
            case AdWithdraw():
                return Offered(event.id, withdrawn=event.ad_ids)
            case CatalogueSnapshot():
                return self._snapshot(event)
            case ModelSwitch():
                return self._switch(event)
            case _:
                return None

    def _snapshot(self, event: CatalogueSnapshot) -> Offered:
        try:
            good, error = split_valid(self._ads_of(event.artifact))
        except ArtifactError as missing:
            logger.warning("budgets stay as they are: %s", missing)
            return Offered(event.id)
        return Offered(event.id, good, whole=True) if error is None else Offered(event.id)

    def _switch(self, event: ModelSwitch) -> Offered:
        try:
            return Offered(event.id, slots=self._slots_of(event.model_hash))
        except ArtifactError as missing:
            logger.warning("slots are learned from clicks alone: %s", missing)
            return Offered(event.id)


def published_slots(artifacts: Path, model_hash: str) -> SlotCounts | None:
    """Return what the log behind a published model told of slots; raises ArtifactError where it is not."""
    require_hash(model_hash)
    return stored_slots(read_manifest(artifacts / "models" / model_hash))


def unpublished(model_hash: str) -> SlotCounts | None:
    """Refuse every model, as `no_artifacts` does every catalogue."""
    raise ArtifactError(f"model {model_hash}: got no folder of artifacts. Fix: set `artifacts`.")


def no_artifacts(artifact: str) -> tuple[Ad, ...]:
    """Refuse every artifact: for logs that bring their ads in records."""
    raise ArtifactError(f"catalogue artifact {artifact}: got no folder of artifacts. Fix: set `artifacts`.")
