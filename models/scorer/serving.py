"""The Transformer in service: a trained model behind `models.scorer.interface.Scorer`, without torch.

Legend: B users, A ads, K candidates, D width, R ads to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.catalogue import Ad, Catalogue, text_of
from models.domain.errors import ArtifactError, ImpulseError, SettingError
from models.domain.ids import key64, label_key

from . import artifact
from .ad_index import AdRows, CatalogueIndex, catalogue_index
from .campaigns import CampaignTable, no_campaigns, stored_campaigns
from .config import ModelConfig
from .content import ContentEncoder, content_vectors, restore
from .dwell import DwellHead, expected_ms, stored_dwell
from .features import category_rows, vocabulary_rows, wait_rows
from .interface import HistoryTable
from .kernels import multiply
from .kv_cache import HotUsers, empty_seats, seat_bytes
from .leanings import LeaningTable, no_leanings, stored_leanings
from .neighbours import Neighbours, add_boosts, boosts, neighbours_of, recent_rows
from .ranker import rank_candidates
from .retrieval import Boosts, top_k
from .segments import SegmentTable, no_segments, stored_segments
from .simd import padded
from .weights import (
    Head,
    Tensors,
    Towers,
    blank_tensors,
    dwell_weights,
    encoder_weights,
    head_weights,
    rates,
    tower_weights,
    wait_weights,
)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

Content = Callable[[Sequence[Ad]], F32]
"""Vectors `[R, content_dim]` of ads by their text or media; each row by its ad alone, to the last bit."""

HOT_USERS_BYTES = 256 << 20
"""Default memory of the cache of hot users."""


class TransformerScorer:
    """A trained Transformer; implements `models.scorer.interface.Scorer`.

    Parameters
    ----------
    config, tensors, model_hash
        The model, named as transformer.py and artifact.py say. ArtifactError where they disagree.
    content
        Content vectors of ads; needed where the model has ``content_dim``.
    neighbours
        Item graph that boosts the followers of a user's last ads in both stages. With it a user's vector
        carries, past its D columns, the rows of those ads.
    segments
        What the model knows of segments; None: nothing.
    campaigns
        What it knows of the campaigns of ads that it does not know; None: nothing.
    dwell
        How long users stay after a click; None: the model does not tell.
    leanings
        What it reads in users' views; None: nothing.
    hot_users
        Users whose keys and values are kept; None for what HOT_USERS_BYTES hold.

    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Tensors,
        model_hash: str,
        *,
        content: Content | None = None,
        neighbours: Neighbours | None = None,
        segments: SegmentTable | None = None,
        campaigns: CampaignTable | None = None,
        dwell: DwellHead | None = None,
        leanings: LeaningTable | None = None,
        hot_users: int | None = None,
    ) -> None:
        self.model_hash = model_hash
        self.leanings = no_leanings(config.categories) if leanings is None else leanings
        self.segments = no_segments(config.categories) if segments is None else segments
        self._campaigns = no_campaigns() if campaigns is None else campaigns
        self.config = config
        self.history_length = config.history_length
        self._neighbours = neighbours
        self._content = _checked_content(config, content)
        self._keys = _vocabulary(config, tensors)
        encoder = encoder_weights(config, tensors)
        self._head = head_weights(config, tensors)
        self._dwell = dwell
        self._towers = tower_weights(config, tensors)
        self._rates = rates(config, tensors)
        self._start = encoder.start[None]
        self._waits = wait_weights(config, tensors)
        self.conversion_slope = self._rates.conversion_slope
        self.adjustment_slope = self._rates.adjustment_slope
        seats = hot_users if hot_users is not None else max(64, HOT_USERS_BYTES // seat_bytes(config))
        self._hot = HotUsers(config, encoder, self._keys, seats)

    def index(self, catalogue: Catalogue, previous: Any = None) -> CatalogueIndex:
        """Return the catalogue's index; see `models.scorer.interface.Scorer.index`."""
        return catalogue_index(catalogue, self._tower, self.model_hash, previous)

    def _tower(self, ads: Sequence[Ad]) -> AdRows:
        keys = np.fromiter((key64(ad.ad_id) for ad in ads), np.uint64, count=len(ads))
        categories = np.fromiter((label_key(ad.category) for ad in ads), np.uint64, count=len(ads))
        rows = vocabulary_rows(self._keys, keys)
        content = np.zeros((len(ads), 0), np.float32)
        if self._content is not None:
            content = np.ascontiguousarray(self._content(ads), np.float32)
        shown = (rows, category_rows(categories, self.config.categories), content)
        vectors, queries, halves = _tower_rows(self._towers, *shown)
        of_new = self._campaigns.of_new(ads, rows)
        bias = self._towers.bias[rows] + of_new.click
        halves[:, -2] += of_new.conversion
        conversion = halves[:, -2] + self._rates.typical_conversion
        self._add_everyone(vectors, bias, queries, halves)
        return AdRows(vectors[:, : self.config.d_model], bias, queries, halves, rows, conversion)

    def _add_everyone(self, vectors: F32, bias: F32, queries: F32, halves: F32) -> None:
        """Put what is added to everyone's logits into the halves `[R, M + 2]`; see `Transformer.head`."""
        share, offset = self._rates.everyone
        if share == 0 and offset == 0:
            return
        every, nobody = np.arange(len(bias), dtype=np.int32)[None], np.zeros(1, np.int64)
        click, _ = rank_candidates(
            empty_seats(self.config, 1), self._hot.shape, self._head, nobody, self._start, vectors, bias,
            queries, halves, every,
        )  # fmt: skip
        halves[:, -1] = share * click[0] + offset
        halves[:, -2] += np.float32(self.conversion_slope) * halves[:, -1]

    def encode(self, history: HistoryTable, rows: I64, times: I64) -> F32:
        """Return the users' vectors `[B, D]`; see `models.scorer.interface.Scorer.encode`."""
        self._check(history)
        vectors = [self._hot.seats.vector[self._hot.advance(history, part)] for part in self._parts(rows)]
        whole = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        users = self._asked(whole[:, : self.config.d_model], history, rows, times)
        if self._neighbours is None:
            return np.ascontiguousarray(users)
        recent = recent_rows(history, rows, self._keys, len(self._neighbours.decay))
        return np.concatenate([users, recent], axis=1)

    def _asked(self, last: F32, history: HistoryTable, rows: I64, times: I64) -> F32:
        """Return the vectors `[B, D]` for requests at ``times``, from those after the last events."""
        if self._waits is None:
            return last
        wait = wait_rows(times, history.last_ms(rows), self.config.gap_buckets)
        asked: F32 = last * self._waits.scale[wait] + self._waits.shift[wait]
        return np.where((wait > 0)[:, None], asked, last)

    def retrieve(
        self, users: F32, ads: CatalogueIndex, bias: F32, bias_row: I64, eligible: U64, k: int
    ) -> tuple[I32, F32]:
        """Return the exact top ``k``; see `models.scorer.interface.Scorer.retrieve`."""
        graph = self._neighbours
        added = None if graph is None or graph.blend == 0 else self._boosts(graph, graph.blend, users, ads)
        queries = self._rates.own * users[:, : self.config.d_model] + self._rates.common
        return top_k(queries, ads.scan, bias, bias_row, eligible, k, added)

    def rank(
        self, history: HistoryTable, rows: I64, users: F32, ads: CatalogueIndex, candidates: I32
    ) -> tuple[F32, F32]:
        """Return click and conversion logits; see `models.scorer.interface.Scorer.rank`."""
        click, conversion = self._ranked(self._head, history, rows, users, ads, candidates)
        graph = self._neighbours
        if graph is not None and graph.click != 0:
            add_boosts(click, candidates, self._boosts(graph, graph.click, users, ads), len(ads))
        return click, conversion

    def _boosts(self, graph: Neighbours, share: float, users: F32, ads: CatalogueIndex) -> Boosts:
        recent = np.ascontiguousarray(users[:, self.config.d_model :])
        return boosts(graph, share, recent, ads.place, len(ads))

    def dwell_ms(
        self, history: HistoryTable, rows: I64, users: F32, ads: CatalogueIndex, candidates: I32
    ) -> F64 | None:
        """Return the expected stays `[B, K]`; see `models.scorer.interface.Scorer.dwell_ms`."""
        if self._dwell is None:
            return None
        head = dwell_weights(self.config, self._head, self._dwell.weight)
        log_ms, _ = self._ranked(head, history, rows, users, ads, candidates)
        return expected_ms(log_ms, self._dwell.mean, ads.known, candidates, self._dwell.smear)

    def _ranked(
        self, head: Head, history: HistoryTable, rows: I64, users: F32, ads: CatalogueIndex, candidates: I32
    ) -> tuple[F32, F32]:
        self._check(history)
        width = self.config.d_model
        vectors = np.zeros((len(rows), padded(width)), np.float32)
        vectors[:, :width] = users[:, :width]
        if candidates.size and not candidates.max() < len(ads):
            raise ImpulseError.expected(
                "rank candidates", got=int(candidates.max()), expected=f"rows below {len(ads)}",
                fix="pass rows of this index's catalogue",
            )  # fmt: skip
        parts = [
            rank_candidates(
                self._hot.seats, self._hot.shape, head, self._hot.current(history, rows[part]), vectors[part],
                ads.scan.vectors, ads.scan.bias, ads.queries, ads.halves, candidates[part],
            )
            for part in self._parts(np.arange(len(rows)))
        ]  # fmt: skip
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _parts(self, rows: I64) -> list[I64]:
        """Split a batch into parts that fit the cache; at least one, maybe empty."""
        return [rows[i : i + len(self._hot)] for i in range(0, max(len(rows), 1), len(self._hot))]

    def _check(self, history: HistoryTable) -> None:
        kept = history.ad_key.shape[1]
        if kept < self.history_length:
            raise ImpulseError.expected(
                "events kept per user", got=kept, expected=f"{self.history_length} or more",
                fix="make the history table as long as the model's history_length",
            )  # fmt: skip


@njit(cache=True)
def _tower_rows(towers: Towers, ad: I64, category: I64, content: F32) -> tuple[F32, F32, F32]:
    """Return vectors `[R, Dp]`, target queries `[R, H Ep]` and halves `[R, M + 2]` of ads, their last 0."""
    count, width = len(ad), towers.ad.shape[1]
    features, queries, inner = content.shape[1], towers.query.shape[1], towers.half.shape[1]
    v = np.zeros(count * width, np.float32)
    q = np.zeros(count * queries, np.float32)
    half = np.zeros(count * inner, np.float32)
    if features > 0:
        multiply(content, 0, features, towers.content, 0, features, width, v, 0, width, count)
    for r in range(count):
        for d in range(width):
            v[r * width + d] += towers.ad[ad[r], d] + towers.category_out[category[r], d]
    multiply(v, 0, width, towers.query, 0, width, queries, q, 0, queries, count)
    multiply(v, 0, width, towers.half, 0, width, inner, half, 0, inner, count)
    halves = np.zeros((count, inner + 2), np.float32)
    for r in range(count):
        for m in range(inner):
            halves[r, m] = half[r * inner + m] + towers.half_bias[m]
        halves[r, inner] = towers.conversion[ad[r]]
    return v.reshape(count, width), q.reshape(count, queries), halves


def open_scorer(directory: Path, *, hot_users: int | None = None) -> TransformerScorer:
    """Return the scorer of the model in a folder that `impulse train` wrote.

    Raises
    ------
    ArtifactError
        where the folder is missing, damaged or of another schema, or what it holds does not fit together.

    """
    model = artifact.load(directory)
    try:
        return _scorer_of(model, hot_users)
    except SettingError as error:  # of the content encoder, which may be missing here
        raise ArtifactError(str(error)) from error
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise ArtifactError.expected(
            f"model in {directory}", got=f"{type(error).__name__}: {error}",
            expected="what `impulse train` writes", fix="train the model again",
        ) from error  # fmt: skip


def _scorer_of(model: artifact.Artifact, hot_users: int | None) -> TransformerScorer:
    config = ModelConfig.from_dict(model.manifest["config"])
    encoder = restore(model.manifest["content"], model.tensors)
    if encoder is not None and encoder.width != config.content_dim:
        raise ArtifactError.expected(
            "width of the content encoder", got=encoder.width, expected=str(config.content_dim),
            fix="train the model again",
        )  # fmt: skip
    return TransformerScorer(
        config,
        model.tensors,
        model.model_hash,
        content=content_of(encoder),
        neighbours=neighbours_of(model.manifest["neighbours"], model.tensors, config.vocabulary),
        segments=stored_segments(model.tensors, config.segments, config.categories),
        campaigns=stored_campaigns(model.tensors),
        dwell=stored_dwell(model.tensors, config.head_width, config.vocabulary + 1),
        leanings=stored_leanings(model.tensors, config.segments + 1, config.categories),
        hot_users=hot_users,
    )


def content_of(encoder: ContentEncoder | None) -> Content | None:
    """Return the content vectors of ads as a function, None where the model has no content."""
    if encoder is None:
        return None

    def vectors(ads: Sequence[Ad]) -> F32:
        return content_vectors(encoder, [text_of(ad) for ad in ads], [ad.vector for ad in ads])

    return vectors


def warm_up() -> None:
    """Compile, or load from numba's cache (NUMBA_CACHE_DIR), every kernel of a model in service.

    A process that starts without a model needs them, too: a record may switch to one at any time.
    """
    config = ModelConfig(
        vocabulary=1, d_model=16, heads=1, window=2, rotary_length=16, categories=2, use_wait=True
    )
    dwell = DwellHead(np.zeros(config.head_width, np.float32), np.zeros(2, np.float32), 0.0)
    graph = Neighbours(
        np.zeros((2, 1), np.int32), np.zeros((2, 1), np.float32), np.ones(1, np.float32), blend=1.0, click=1.0
    )
    scorer = TransformerScorer(
        config, blank_tensors(config), "warm-up", neighbours=graph, dwell=dwell, hot_users=1
    )
    history, rows = HistoryTable.empty(1, scorer.history_length), np.zeros(1, np.int64)
    history.count[0] = 1
    index = scorer.index(Catalogue().upsert([Ad(ad_id="a", campaign_id="c")]))
    users = scorer.encode(history, rows, history.time_ms[:, 0])
    bias, eligible = np.zeros((1, 1), np.float32), np.ones((1, 1), np.uint64)
    found, _ = scorer.retrieve(users, index, bias, rows, eligible, 1)
    click, conversion = scorer.rank(history, rows, users, index, found)
    views = LeaningTable(np.full((1, 2), 0.5, np.float32), weight=1.0)
    views.add(click, conversion, found, 0.0, history, rows, rows, rows, scorer.history_length)
    scorer.dwell_ms(history, rows, users, index, found)


def _vocabulary(config: ModelConfig, tensors: Tensors) -> U64:
    keys = tensors.get("vocabulary_keys", np.zeros(0, np.uint64))
    ascending = len(keys) < 2 or bool((keys[1:] > keys[:-1]).all())
    if keys.dtype != np.uint64 or keys.shape != (config.vocabulary,) or not ascending:
        raise ArtifactError.expected(
            "model tensor vocabulary_keys", got=(str(keys.dtype), keys.shape),
            expected=f"uint64 ({config.vocabulary},), ascending", fix="train the model again",
        )  # fmt: skip
    return keys


def _checked_content(config: ModelConfig, content: Content | None) -> Content | None:
    if config.content_dim and content is None:
        raise ArtifactError.expected(
            "content encoder", got=None, expected=f"one of {config.content_dim} dimensions",
            fix="open the model with the content encoder it was trained with",
        )  # fmt: skip
    return content if config.content_dim else None
