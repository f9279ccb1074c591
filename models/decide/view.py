"""What the decisions of a partition depend on besides the user: policy, catalogue, weights, pacing, model.

A `View` is an immutable value, moved on by control records. Partitions receive the same records, so
equal views are built once per process and shared (`ViewBuilder`); which partition gets there first
changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from models.domain.catalogue import Ad, Catalogue
from models.domain.errors import ArtifactError, BadRecord, SettingError
from models.domain.events import (
    Adjustments,
    AdUpsert,
    AdWithdraw,
    CatalogueSnapshot,
    Control,
    ModelSwitch,
    Pacing,
    PolicyChange,
)
from models.domain.ids import content_hash
from models.domain.policy import Policy
from models.learning.compiled import CompiledWeights, WeightCache
from models.learning.weights import WeightTable
from models.policy.caps import check_policy
from models.policy.eligibility import Rules
from models.policy.validation import valid_ads
from models.scorer.interface import AdIndex, Scorer

from .profiles import IMPRESSIONS_KEPT

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The results of the last ``size`` distinct computations; forgetting one costs time, nothing else."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, compute: Callable[[], V]) -> V:
        """Return the result for a key, computing it where it is not remembered."""
        if key in self._results:
            self._results.move_to_end(key)
            return self._results[key]
        result = self._results[key] = compute()
        if len(self._results) > self._size:
            self._results.popitem(last=False)
        return result


class Resources(Protocol):
    """Where artifacts named by control records come from, and where views of snapshots are kept."""

    def scorer(self, model_hash: str) -> Scorer:
        """Return the model of this hash; raises ArtifactError."""
        ...

    def ads(self, artifact: str) -> tuple[Ad, ...]:
        """Return the ads of a catalogue artifact; raises ArtifactError."""
        ...

    def keep(self, data: bytes) -> str:
        """Keep a blob and return its content hash."""
        ...

    def kept(self, name: str) -> bytes:
        """Return the blob of this content hash; raises ArtifactError."""
        ...


class PacingTable(msgspec.Struct, frozen=True):
    """The multipliers in force and the campaigns whose budget is spent."""

    version: int = 0
    multipliers: dict[str, float] = {}
    exhausted: tuple[str, ...] = ()

    def apply(self, change: Pacing) -> PacingTable:
        """Return the table after a change; a stale version changes nothing."""
        if change.version <= self.version:
            return self
        return PacingTable(change.version, self.multipliers | change.multipliers, change.exhausted)


@dataclass(frozen=True, eq=False)
class View:
    """Everything in force at one point of a partition's log."""

    policy: Policy
    catalogue: Catalogue
    weights: WeightTable
    pacing: PacingTable
    scorer: Scorer


class ViewBuilder:
    """Moves views on and compiles them; one per process, holding caches only.

    Parameters
    ----------
    scorer
        The model in force before the log names one.
    resources
        Artifact access.
    pinned
        Ignore the log's model switches: a replay of the log with another model.

    """

    def __init__(self, scorer: Scorer, resources: Resources, *, pinned: bool = False) -> None:
        self._first = View(Policy(), Catalogue(), WeightTable(), PacingTable(), scorer)
        self._resources = resources
        self._pinned = pinned
        self._weights = WeightCache(32)
        self._steps: Recent[tuple[int, int], tuple[View, Control, View]] = Recent(256)
        self._catalogues: Recent[tuple[str, str], Catalogue] = Recent(8)
        self._indexes: Recent[tuple[str, str], AdIndex] = Recent(4)
        self._rules: Recent[tuple[str, Policy], Rules] = Recent(8)
        self._dumps: Recent[int, tuple[View, str]] = Recent(64)
        self._last_index: AdIndex | None = None
        self._last_rules: Rules | None = None

    def first(self) -> View:
        """Return the view of an empty log."""
        return self._first

    def apply(self, view: View, event: Control) -> View:
        """Return the view after a control record.

        Raises
        ------
        BadRecord
            when the record cannot be applied as it is; what can be applied of it is in ``partial`` of
            no view: the view in force stays.

        """
        return self._steps.get((id(view), id(event)), lambda: (view, event, self._applied(view, event)))[2]

    def _applied(self, view: View, event: Control) -> View:
        match event:
            case AdUpsert():
                return replace(view, catalogue=self._upserted(view.catalogue, event))
            case AdWithdraw():
                key = (view.catalogue.version, event.id)
                changed = self._catalogues.get(key, lambda: view.catalogue.withdraw(event.ad_ids))
                return replace(view, catalogue=changed)
            case CatalogueSnapshot():
                return replace(view, catalogue=self._snapshot(view.catalogue, event))
            case Adjustments():
                return replace(view, weights=self._weights.apply(view.weights, event).table)
            case Pacing():
                return replace(view, pacing=view.pacing.apply(event))
            case ModelSwitch():
                return view if self._pinned else replace(view, scorer=self._model(event.model_hash))
            case PolicyChange():
                return replace(view, policy=_checked(event.policy))
            case _:
                return view

    def _upserted(self, catalogue: Catalogue, event: AdUpsert) -> Catalogue:
        valid_ads(event.ads)
        key = (catalogue.version, content_hash(msgspec.json.encode(event)))
        return self._catalogues.get(key, lambda: catalogue.upsert(event.ads))

    def _snapshot(self, catalogue: Catalogue, event: CatalogueSnapshot) -> Catalogue:
        try:
            ads = self._resources.ads(event.artifact)
        except ArtifactError as error:
            raise BadRecord("unknown_artifact", str(error)) from error
        valid_ads(ads)
        return self._catalogues.get((catalogue.version, event.artifact), lambda: catalogue.replaced(ads))

    def _model(self, model_hash: str) -> Scorer:
        try:
            return self._resources.scorer(model_hash)
        except ArtifactError as error:
            raise BadRecord("unknown_model", str(error)) from error

    def index(self, view: View) -> AdIndex:
        """Return the catalogue as the view's model sees it."""
        key = (view.scorer.model_hash, view.catalogue.version)
        self._last_index = self._indexes.get(
            key, lambda: view.scorer.index(view.catalogue, self._last_index)
        )
        return self._last_index

    def rules(self, view: View) -> Rules:
        """Return the eligibility rules of the view's catalogue and policy."""
        key = (view.catalogue.version, view.policy)
        self._last_rules = self._rules.get(
            key, lambda: Rules.compile(view.catalogue, view.policy, self._last_rules)
        )
        return self._last_rules

    def adjustments(self, view: View) -> CompiledWeights:
        """Return the learned adjustments laid out along the catalogue."""
        return self._weights.compile(view.weights, view.catalogue)

    def dump(self, view: View) -> str:
        """Keep a view as a blob and return its name."""
        return self._dumps.get(id(view), lambda: (view, self._kept(view)))[1]

    def _kept(self, view: View) -> str:
        catalogue = self._resources.keep(view.catalogue.to_bytes())
        parts = _ViewParts(
            policy=view.policy,
            catalogue=catalogue,
            weights=self._resources.keep(view.weights.to_bytes()),
            pacing=view.pacing,
            model_hash=view.scorer.model_hash,
        )
        return self._resources.keep(msgspec.json.encode(parts))

    def load(self, name: str) -> View:
        """Return the view that `dump` kept under this name.

        Raises
        ------
        ArtifactError
            when a part of it is missing or damaged.

        """
        parts = msgspec.json.decode(self._resources.kept(name), type=_ViewParts)
        known = parts.model_hash == self._first.scorer.model_hash
        return View(
            parts.policy,
            Catalogue.from_bytes(self._resources.kept(parts.catalogue)),
            WeightTable.from_bytes(self._resources.kept(parts.weights)),
            parts.pacing,
            self._first.scorer if known or self._pinned else self._resources.scorer(parts.model_hash),
        )


class _ViewParts(msgspec.Struct):
    policy: Policy
    catalogue: str
    weights: str
    pacing: PacingTable
    model_hash: str


def _checked(policy: Policy) -> Policy:
    try:
        check_policy(policy, IMPRESSIONS_KEPT)
    except SettingError as error:
        raise BadRecord("bad_policy", str(error)) from error
    return policy
