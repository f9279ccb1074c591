"""What one process holds for its shards: the model in force at first, artifacts, caches, bounds."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from connectors.artifacts import ArtifactStore, copy_whole, require_hash
from connectors.catalogues import stored_ads
from connectors.codec import EventCodec
from models.decide.decider import Decider
from models.decide.shard import Place, Shard, ShardBounds
from models.decide.views import ViewBuilder
from models.decide.warm_up import warm_up
from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError
from models.scorer.artifact import load as load_artifact
from models.scorer.config import ModelConfig, check_history
from models.scorer.interface import Scorer
from models.scorer.popularity import PopularityScorer
from models.scorer.serving import open_scorer
from models.scorer.serving import warm_up as warm_up_models

from .settings import Settings


class StoredResources:
    """Artifacts from a folder that all processes see.

    Models stand in ``models/`` under their hash, catalogues beside it under their content's. Views of
    snapshots stand in ``views/``, each process's in a folder of its own: it removes what its snapshots no
    longer need, and another process may need the same.
    """

    def __init__(self, folder: Path, kv_cache_users: int) -> None:
        self._store = ArtifactStore(folder)
        self._models = folder / "models"
        self._views = folder / "views"
        self._own = ArtifactStore(self._views / uuid.uuid4().hex)
        self._kv_cache_users = kv_cache_users
        self._added: dict[str, Scorer] = {}
        self._opened: WeakValueDictionary[str, Scorer] = WeakValueDictionary()

    def scorer(self, model_hash: str) -> Scorer:
        """Return the model of this hash, opened once for as long as anybody holds it: each is large."""
        found = self._added.get(model_hash, self._opened.get(model_hash))
        return self._open(model_hash) if found is None else found

    def _open(self, model_hash: str) -> Scorer:
        require_hash(model_hash)
        scorer = open_scorer(self._models / model_hash, hot_users=self._kv_cache_users)
        if scorer.model_hash != model_hash:
            raise ArtifactError.expected(
                f"model {model_hash} of the artifacts", got=f"model {scorer.model_hash}",
                expected="a model under its own hash", fix="publish it: impulse publish FOLDER",
            )  # fmt: skip
        self._opened[model_hash] = scorer
        return scorer

    def add(self, scorer: Scorer) -> None:
        """Let a model that was opened elsewhere be found by its hash."""
        self._added[scorer.model_hash] = scorer

    def ads(self, artifact: str) -> tuple[Ad, ...]:
        """Return the ads of a catalogue artifact: a JSON array of ads."""
        return stored_ads(self._store, artifact)

    def keep(self, data: bytes) -> str:
        """Keep a blob and return its content hash."""
        return self._own.put(data)

    def kept(self, name: str) -> bytes:
        """Return the blob of this content hash, whichever process kept it."""
        holder = next(iter(sorted(self._views.glob(f"*/{name}"))), None)
        return (self._store if holder is None else ArtifactStore(holder.parent)).get(name)

    def drop(self, name: str) -> None:
        """Remove a blob that this process kept."""
        self._own.remove(name)


@dataclass(frozen=True)
class Service:
    """Makes the shards of a process; everything they share is a cache."""

    views: ViewBuilder
    decider: Decider
    bounds: ShardBounds
    slices: int
    codec: EventCodec

    def new_shard(self, place: Place) -> Shard:
        """Return an empty shard."""
        return Shard(place, self.views, self.decider, self.bounds)

    def warm_up(self) -> None:
        """Compile every kernel, or load them from the cache, before the first record arrives."""
        warm_up_models()
        warm_up(self.new_shard)

    @classmethod
    def of(cls, settings: Settings, *, pinned: bool = False) -> Service:
        """Return the service that the settings describe.

        Raises
        ------
        ArtifactError
            when the model is missing, damaged, of another schema, or reads more events than are kept.

        """
        bounds = settings.bounds
        resources = StoredResources(settings.artifacts, bounds.kv_cache_users)
        scorer = first_scorer(settings.model, bounds.kv_cache_users)
        resources.add(scorer)
        return cls(
            views := ViewBuilder(scorer, resources, bounds.history_length, pinned=pinned),
            Decider(views),
            ShardBounds(bounds.users_per_shard, bounds.decisions_per_shard, bounds.seen_ids_per_shard),
            bounds.slices,
            EventCodec(),
        )


def publish_model(folder: Path, artifacts: Path, history_length: int) -> str:
    """Copy a trained model into the artifacts, where every process finds it by its hash; return the hash.

    Raises
    ------
    ArtifactError
        when the folder holds no whole model, or one that reads more than ``history_length`` events of a user.

    """
    stored = load_artifact(folder)
    config, model_hash = ModelConfig.from_dict(stored.manifest["config"]), stored.model_hash
    check_history(model_hash, config.history_length, history_length)
    target = artifacts / "models" / model_hash
    if target.exists() and not _is_whole(target, model_hash):
        shutil.rmtree(target)
    if not target.exists():
        copy_whole(folder, target)
    return model_hash


def _is_whole(target: Path, model_hash: str) -> bool:
    """Return whether a published model is what its name says: no copy that was cut short."""
    try:
        return load_artifact(target).model_hash == model_hash
    except ArtifactError:
        return False


def first_scorer(model: Path | None, kv_cache_users: int) -> Scorer:
    """Return the model in force before the log names one: popularity where there is none."""
    return PopularityScorer() if model is None else open_scorer(model, hot_users=kv_cache_users)
