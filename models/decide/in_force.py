"""What a partition's control records put in force, where a log is read without deciding.

Which ads and policies count is what serving says. Every partition has a copy of each control record; what the
copies bring is held once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError, BadRecord, LogError
from models.domain.events import AdUpsert, CatalogueSnapshot, Control, PolicyChange
from models.domain.policy import Policy
from models.state.seen import SeenIds

from .validated import split_valid, valid_policy

SEEN = 1 << 16
"""Ids of records that are remembered, so that what comes again counts once."""
_WHOLE = 4
"""Whole catalogues last read that are kept for the other partitions' copies of the record."""
_NO_ADS: Mapping[str, Ad] = MappingProxyType({})


class KnownAds:
    """The ads of a log, shared by its partitions; ``all`` are those that were ever in force.

    ``ads_of`` returns the ads of a catalogue artifact and raises ArtifactError where it cannot.
    """

    def __init__(self, ads_of: Callable[[str], tuple[Ad, ...]] | None) -> None:
        self.all: dict[str, Ad] = {}
        self._ads_of = ads_of
        self._told = SeenIds(SEEN)
        self._whole = lru_cache(_WHOLE)(self._opened)

    def upserted(self, event: AdUpsert) -> dict[str, Ad]:
        """Return the ads of a record that serving takes."""
        usable, _ = split_valid(event.ads)
        ads = self._shared(usable)
        self._tell(event.id, ads)
        return ads

    def whole(self, event: CatalogueSnapshot) -> Mapping[str, Ad] | None:
        """Return a whole catalogue; None where serving refuses it.

        Raises
        ------
        LogError
            where it is not at hand.

        """
        ads = self._whole(event.artifact)
        if ads is not None:
            self._tell(event.id, ads)
        return ads

    def _tell(self, event_id: str, ads: Mapping[str, Ad]) -> None:
        """Note what the first copy of a record brings: another's may come after what replaced it."""
        if self._told.first_time(event_id):
            self.all |= ads

    def _shared(self, ads: Iterable[Ad]) -> dict[str, Ad]:
        """Return the one object that stands for each ad's equal records, by id."""
        return {ad.ad_id: known if (known := self.all.get(ad.ad_id)) == ad else ad for ad in ads}

    def _opened(self, artifact: str) -> Mapping[str, Ad] | None:
        ads, error = split_valid(self._artifact(artifact))
        return self._shared(ads) if error is None else None

    def _artifact(self, artifact: str) -> tuple[Ad, ...]:
        try:
            if self._ads_of is None:
                raise ArtifactError("no folder of artifacts was named")
            return self._ads_of(artifact)
        except ArtifactError as missing:
            raise LogError.expected(
                f"catalogue {artifact} of the log", got=str(missing), expected="the ads that it names",
                fix="let `artifacts` (IMPULSE_ARTIFACTS) be the folder that `impulse ads --replace` wrote to",
            ) from missing  # fmt: skip


class ClickWindows:
    """The ads' own windows after a click, as they were at every offset of a partition."""

    def __init__(self) -> None:
        self._changes: dict[str, list[tuple[int, int | None]]] = {}
        """Offsets and seconds of the ads that ever had a window of their own."""

    def at(self, offset: int, ad_id: str) -> int | None:
        """Return the seconds that an ad had of its own when the record at an offset came, if any."""
        changes = self._changes.get(ad_id)
        before = bisect_left(changes, offset, key=lambda change: change[0]) if changes else 0
        return changes[before - 1][1] if changes and before else None

    def upsert(self, offset: int, ads: Mapping[str, Ad]) -> None:
        """Note the windows of ads that came."""
        for ad in ads.values():
            self._note(offset, ad.ad_id, ad.click_through_s)

    def replace(self, offset: int, ads: Mapping[str, Ad]) -> None:
        """Note the windows of a whole catalogue."""
        for ad_id in self._changes.keys() - ads.keys():
            self._note(offset, ad_id, None)
        self.upsert(offset, ads)

    def _note(self, offset: int, ad_id: str, own_s: int | None) -> None:
        changes = self._changes.get(ad_id)
        if (changes[-1][1] if changes else None) != own_s:
            self._changes.setdefault(ad_id, []).append((offset, own_s))


class InForce:
    """Policy, ads and windows of one partition; ``known`` is shared by all."""

    def __init__(self, known: KnownAds) -> None:
        self.policy = Policy()
        self.windows = ClickWindows()
        self._known = known
        self._whole: Mapping[str, Ad] = _NO_ADS
        self._since: dict[str, Ad] = {}
        """Ads that came after the whole catalogue, which partitions share."""

    def ad(self, ad_id: str) -> Ad | None:
        """Return the last record of an ad, withdrawn or not, if there is one."""
        return self._since.get(ad_id) or self._whole.get(ad_id)

    def apply(self, offset: int, event: Control) -> None:
        """Put in force what a control record brings, or nothing where serving refuses it.

        Raises
        ------
        LogError
            where the catalogue that it names is not at hand.

        """
        match event:
            case AdUpsert():
                ads = self._known.upserted(event)
                self._since |= ads
                self.windows.upsert(offset, ads)
            case CatalogueSnapshot():
                whole = self._known.whole(event)
                if whole is not None:
                    self._whole, self._since = whole, {}
                    self.windows.replace(offset, whole)
            case PolicyChange():
                self._change(event.policy)

    def _change(self, policy: Policy) -> None:
        try:
            self.policy = valid_policy(policy)
        except BadRecord:
            return
