"""Moving views on, sharing them between partitions, and keeping them for snapshots.

Partitions receive the same control records, so equal views are built once per process and shared; which
partition gets there first changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from models.domain.catalogue import Ad, Catalogue
from models.domain.errors import ArtifactError, BadRecord
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
from models.policy.eligibility import Rules
from models.scorer.config import check_history
from models.scorer.interface import AdIndex, Scorer

from .compiled_view import CompiledView
from .kept_views import KeptViews
from .validated import split_valid, valid_policy
from .view import PacingTable, View

MODELS = 2
"""Models last switched to that are held in memory, beside the first one and those in force."""
_WITH_SITUATIONS = 8
"""Views last asked for that keep what they know of segments, a row of the catalogue's length each."""

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

    def __contains__(self, key: K) -> bool:
        return key in self._results

    def all_but_latest(self, count: int) -> list[V]:
        """Return the results but for those that were asked for last."""
        return list(self._results.values())[: max(len(self._results) - count, 0)]

    def keep(self, wanted: Callable[[V], bool]) -> None:
        """Forget the results that are not wanted."""
        for key in [key for key, result in self._results.items() if not wanted(result)]:
            del self._results[key]


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

    def drop(self, name: str) -> None:
        """Remove a blob that was kept; nothing where it was kept by another process."""
        ...


class Moved(NamedTuple):
    """The view after a control record, and what of the record could not be applied, if anything."""

    view: View
    error: BadRecord | None


class ViewBuilder:
    """Moves views on and compiles them; one per process, holding caches only.

    Parameters
    ----------
    scorer
        The model in force before the log names one.
    resources
        Artifact access.
    history_length
        Events kept per user; a model that reads more is refused, the first one with ArtifactError.
    pinned
        Ignore the log's model switches: a replay of the log with another model.

    """

    def __init__(
        self, scorer: Scorer, resources: Resources, history_length: int, *, pinned: bool = False
    ) -> None:
        check_history(scorer.model_hash, scorer.history_length, history_length)
        self.history_length = history_length
        self._first = View(Policy(), Catalogue(), WeightTable(), PacingTable(), scorer)
        self._resources = resources
        self._pinned = pinned
        self._models: Recent[str, Scorer] = Recent(MODELS)
        self._weights = WeightCache(32)
        self._steps: Recent[tuple[int, int], tuple[View, Control, Moved]] = Recent(256)
        self._catalogues: Recent[tuple[str, str], Catalogue] = Recent(8)
        self._upserts: Recent[tuple[str, str], tuple[Catalogue, BadRecord | None]] = Recent(8)
        self._indexes: Recent[tuple[str, str], AdIndex] = Recent(4)
        self._rules: Recent[tuple[str, Policy], Rules] = Recent(8)
        self._interned: Recent[tuple[Hashable, ...], View] = Recent(64)
        self._compiled: Recent[int, CompiledView] = Recent(32)
        self._dumps: Recent[int, tuple[View, tuple[str, ...]]] = Recent(64)
        self._loads: Recent[str, tuple[View, tuple[str, ...]]] = Recent(64)
        self._kept_views = KeptViews(self._dropped)
        self._kept_catalogue: tuple[Catalogue | None, str] = (None, "")
        self._last_index: AdIndex | None = None
        self._last_rules: Rules | None = None

    def first(self) -> View:
        """Return the view of an empty log."""
        return self._first

    def apply(self, view: View, event: Control) -> Moved:
        """Return the view after a control record, and what of the record could not be applied."""
        return self._steps.get((id(view), id(event)), lambda: (view, event, self._moved(view, event)))[2]

    def _moved(self, view: View, event: Control) -> Moved:
        try:
            if isinstance(event, AdUpsert):
                changed, error = self._upserted(view, event)
                return Moved(self._shared(changed), error)
            return Moved(self._shared(self._applied(view, event)), None)
        except BadRecord as error:
            return Moved(view, error)
        except (ValueError, OverflowError) as error:  # no value that the schema lets through should do this
            what = f"{type(error).__name__}: {error}. Fix: send values in their usual range."
            return Moved(view, BadRecord("unexpected", what))

    def _shared(self, view: View) -> View:
        """Return the one object that stands for all equal views."""
        pacing = msgspec.json.encode(view.pacing)
        key = (view.policy, view.catalogue.version, view.weights.digest, pacing, view.scorer.model_hash)
        return self._interned.get(key, lambda: view)

    def _applied(self, view: View, event: Control) -> View:
        match event:
            case AdWithdraw():
                key = (view.catalogue.version, content_hash(msgspec.json.encode(event)))
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
                return replace(view, policy=valid_policy(event.policy))
            case _:
                return view

    def _upserted(self, view: View, event: AdUpsert) -> Moved:
        key = (view.catalogue.version, content_hash(msgspec.json.encode(event)))
        changed, error = self._upserts.get(key, lambda: _with_valid(view.catalogue, event))
        return Moved(view if changed is view.catalogue else replace(view, catalogue=changed), error)

    def _snapshot(self, catalogue: Catalogue, event: CatalogueSnapshot) -> Catalogue:
        try:
            ads, error = split_valid(self._resources.ads(event.artifact))
        except ArtifactError as missing:
            raise BadRecord("unknown_artifact", str(missing)) from missing
        if error is not None:
            raise error
        key = (catalogue.version, f"{event.artifact} {event.event_time}")
        return self._catalogues.get(key, lambda: catalogue.replaced(ads, event.event_time))

    def _model(self, model_hash: str) -> Scorer:
        scorer = self._models.get(model_hash, lambda: self._opened(model_hash))
        self._forget_older_models()
        return scorer

    def _opened(self, model_hash: str) -> Scorer:
        try:
            scorer = self._resources.scorer(model_hash)
        except ArtifactError as error:
            raise BadRecord("unknown_model", str(error)) from error
        try:
            check_history(model_hash, scorer.history_length, self.history_length)
        except ArtifactError as error:
            raise BadRecord("bad_model", str(error)) from error
        return scorer

    def _forget_older_models(self) -> None:
        """Let go of the views of other models than the last ones: each holds its model in memory."""

        def recent(view: View) -> bool:
            return view.scorer is self._first.scorer or view.scorer.model_hash in self._models

        self._steps.keep(lambda step: recent(step[0]) and recent(step[2].view))
        self._interned.keep(recent)
        self._compiled.keep(lambda compiled: recent(compiled.view))
        self._dumps.keep(lambda dump: recent(dump[0]))
        self._loads.keep(lambda load: recent(load[0]))

    def compiled(self, view: View) -> CompiledView:
        """Return the view laid out in arrays."""
        return self._compiled.get(id(view), lambda: self._freshly_compiled(view))

    def _freshly_compiled(self, view: View) -> CompiledView:
        for older in self._compiled.all_but_latest(_WITH_SITUATIONS - 1):
            older.forget_situations()
        return CompiledView(view, self._index(view), self._rules_of(view), self._weights_of(view))

    def _index(self, view: View) -> AdIndex:
        key = (view.scorer.model_hash, view.catalogue.version)
        self._last_index = self._indexes.get(key, lambda: view.scorer.index(view.catalogue, self._last_index))
        return self._last_index

    def _rules_of(self, view: View) -> Rules:
        key = (view.catalogue.version, view.policy)
        self._last_rules = self._rules.get(
            key, lambda: Rules.compile(view.catalogue, view.policy, self._last_rules)
        )
        return self._last_rules

    def _weights_of(self, view: View) -> CompiledWeights:
        return self._weights.compile(view.weights, view.catalogue)

    def dump(self, view: View, shard: str) -> str:
        """Keep a view as blobs for the next snapshot of a shard and return its name."""
        blobs = self._dumps.get(id(view), lambda: (view, self._kept(view)))[1]
        self._kept_views.name(shard, blobs)
        return blobs[0]

    def _kept(self, view: View) -> tuple[str, ...]:
        """Return the names of the view's own blob and of what it names."""
        catalogue, name = self._kept_catalogue
        if catalogue is not view.catalogue:
            name = self._resources.keep(view.catalogue.to_bytes())
            self._kept_catalogue = (view.catalogue, name)
        parts = _ViewParts(
            policy=view.policy,
            catalogue=name,
            weights=self._resources.keep(view.weights.to_bytes()),
            pacing=view.pacing,
            model_hash=view.scorer.model_hash,
        )
        return self._resources.keep(msgspec.json.encode(parts)), parts.catalogue, parts.weights

    def _dropped(self, name: str) -> None:
        self._resources.drop(name)
        if self._kept_catalogue[1] == name:
            self._kept_catalogue = (None, "")

    def load(self, name: str, shard: str) -> View:
        """Return the view that `dump` kept under this name for a shard.

        Raises
        ------
        ArtifactError
            when a part of it is missing or damaged.

        """
        view, blobs = self._loads.get(name, lambda: self._loaded(name))
        self._kept_views.name(shard, blobs)
        return view

    def _loaded(self, name: str) -> tuple[View, tuple[str, ...]]:
        parts = msgspec.json.decode(self._resources.kept(name), type=_ViewParts)
        known = parts.model_hash == self._first.scorer.model_hash
        scorer = self._first.scorer if known or self._pinned else self._resources.scorer(parts.model_hash)
        check_history(scorer.model_hash, scorer.history_length, self.history_length)
        view = View(
            parts.policy,
            Catalogue.from_bytes(self._resources.kept(parts.catalogue)),
            WeightTable.from_bytes(self._resources.kept(parts.weights)),
            parts.pacing,
            scorer,
        )
        return self._shared(view), (name, parts.catalogue, parts.weights)


class _ViewParts(msgspec.Struct):
    policy: Policy
    catalogue: str
    weights: str
    pacing: PacingTable
    model_hash: str


def _with_valid(catalogue: Catalogue, event: AdUpsert) -> tuple[Catalogue, BadRecord | None]:
    """Return the catalogue with those of the ads that can be used, and what is wrong with the others."""
    usable, error = split_valid(event.ads)
    return (catalogue.upsert(usable, event.event_time) if usable else catalogue), error
