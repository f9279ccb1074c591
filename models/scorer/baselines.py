"""What the Transformer has to beat, under one protocol: popularity, Markov, pooled MLP, GRU, SASRec-style.

The neural ones share the Transformer's embedding, ad tower, losses and training loop; only what turns
events into hidden states differs. Legend: B users, T events, D width, A items, V known ads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from . import second_stage
from .config import ModelConfig
from .cooccurrence import build, recent_before, recent_events, steps_of
from .datasets import Buckets, Split, from_interactions, interactions_as_dataset
from .encoders import ads_content
from .features import category_rows, vocabulary_rows
from .fitting import default_dropout, items_table
from .fused import row_dropout
from .model import Model
from .options import TrainOptions
from .sequences import F32, I64, AdTable, Dataset, Interactions
from .training import VALIDATION_USERS, train
from .transformer import Ads, Events, Transformer
from .validation import all_scores, blend_and_measure, item_tower, scores_along

ItemScores = Callable[[I64], F32]
NEURAL = ("mlp", "gru", "sasrec")
PLAIN: dict[str, Any] = {
    "use_category": False, "use_kind": False, "use_dwell": False, "use_gap": False, "use_wait": False,
    "content_dim": 0, "slots": 0, "segments": 0,
}  # fmt: skip
"""What the neural baselines do without: they know an event by its ad alone."""


class Gru(Transformer):
    """GRU4Rec's encoder (Hidasi et al. 2016) in place of the blocks: as many layers, no window."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList()
        self.gru = nn.GRU(config.d_model, config.d_model, config.blocks, batch_first=True)

    def hidden(self, events: Events, first_position: int = 0) -> Tensor:
        """Return hidden states `[B, T, D]`."""
        x = row_dropout(self.embed(events), self.config.dropout, self.training)
        return self.final_norm(self.gru(x)[0])


class PooledMlp(Transformer):
    """The mean of the last W events through a two-layer MLP (Covington et al. 2016); blind to order."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList()
        inner = config.d_model * config.ffn_multiple
        self.wide = nn.Linear(config.d_model, inner)
        self.narrow = nn.Linear(inner, config.d_model)

    def hidden(self, events: Events, first_position: int = 0) -> Tensor:
        """Return hidden states `[B, T, D]`."""
        x = row_dropout(self.embed(events), self.config.dropout, self.training)
        mean = running_mean(x, self.config.window)  # [B, T, D]
        return self.final_norm(mean + self.narrow(F.relu(self.wide(mean))))


def running_mean(x: Tensor, window: int) -> Tensor:
    """Return the mean of each position and the up to W - 1 before it, `[B, T, D]`."""
    total = x.cumsum(1)  # [B, T, D]
    before = F.pad(total, (0, 0, window, 0))[:, : x.shape[1]]
    count = torch.arange(1, x.shape[1] + 1, device=x.device).clamp(max=window)
    return (total - before) / count[:, None]


def popularity_scores(interactions: Interactions) -> ItemScores:
    """Return the baseline that ranks by how often an item occurs in training."""
    training = interactions.without_last(2)
    counts = np.bincount(training.item, minlength=len(interactions.item_ids)).astype(np.float32)
    return lambda users: np.tile(counts, (len(users), 1))


def markov_scores(interactions: Interactions) -> ItemScores:
    """Return the co-occurrence baseline: followers of the last events (see cooccurrence.py)."""
    training, history = interactions.without_last(2), interactions.without_last(1)
    ad = training.item + 1
    graph = build(ad, steps_of(training.offsets, ad), len(interactions.item_ids) + 1)

    def scores(users: I64) -> F32:
        recent = recent_events(history.offsets, history.item + 1, users, graph.options.recent)
        return graph.scores(recent)[:, 1:]

    return scores


def model_scores(model: Model, interactions: Interactions, ads: AdTable | None = None) -> ItemScores:
    """Return a trained model's first stage as an item scorer: retrieval logits plus the graph's share.

    Histories are everything but each user's last item. Items unknown to the model are scored by their
    content and category.
    """
    return ItemScorer.of(model, interactions.without_last(1), ads).after_all


@dataclass(frozen=True, eq=False)
class ItemScorer:
    """A trained model, histories as rows of its tables, and the items to score; ``rows`` `[A]` are theirs."""

    model: Model
    dataset: Dataset
    items: Ads
    rows: I64

    @classmethod
    def of(cls, model: Model, history: Interactions, ads: AdTable | None = None) -> ItemScorer:
        """Return the scorer of all items of a file, described by ``ads``, given these histories."""
        ads = items_table(history) if ads is None else ads
        content = ads_content(model.encoder, ads)
        config = model.network.config
        dataset = interactions_as_dataset(history, model.vocabulary, ads, content, Buckets.of(config))
        rows = vocabulary_rows(model.vocabulary, ads.key)
        category = category_rows(ads.category_key, config.categories)
        return cls(model, dataset, Ads(*(torch.from_numpy(x) for x in (rows, category, content))), rows)

    def after_all(self, users: I64) -> F32:
        """Return scores `[B, A]` after all events of users."""
        logits = all_scores(self.model.network, self.dataset, users, self.items)
        begin, end = self.dataset.offsets[users], self.dataset.offsets[users + 1]
        return self._blended(logits, begin, end)

    def as_served(self, users: I64, hidden: Sequence[I64]) -> F32:
        """Return scores `[B, A]` in the order of decisions: candidates by click logits, then the others.

        ``hidden`` holds the items that each user may not be shown.
        """
        scores, graph = self.after_all(users), self.model.graph
        column, real = second_stage.retrieved(scores, hidden)
        logits = second_stage.click_logits(self.model.network, self.dataset, users, column, self._tower)
        if graph is not None and graph.click:
            followers = self._followed(self.dataset.offsets[users], self.dataset.offsets[users + 1])
            logits += np.float32(graph.click) * np.take_along_axis(followers, column, 1)
        return second_stage.lifted(scores, second_stage.Candidates(column, real), logits)

    def before(self, user: int, places: I64) -> F32:
        """Return scores `[N, A]` before the events of one user at ``places`` `[N]` (ascending, from 1)."""
        logits = scores_along(self.model.network, self.dataset, user, places, self._tower)
        begin = np.full(len(places), self.dataset.offsets[user])
        return self._blended(logits, begin, begin + places)

    def _blended(self, logits: F32, begin: I64, end: I64) -> F32:
        graph = self.model.graph
        if graph is None or not graph.blend:
            return logits
        return logits + np.float32(graph.blend) * self._followed(begin, end)

    def _followed(self, begin: I64, end: I64) -> F32:
        """Return the graph's scores `[N, A]` after events ``begin[i]..end[i]`` (exclusive)."""
        graph = self.model.graph
        assert graph is not None
        return graph.scores(recent_before(self.dataset.ad, begin, end, graph.options.recent), self._followers)

    @cached_property
    def _followers(self) -> sp.csr_matrix | None:
        return None if self.model.graph is None else self.model.graph.matrix[:, self.rows]

    @cached_property
    def _tower(self) -> tuple[Tensor, Tensor]:
        return item_tower(self.model.network, self.items)


def without_graph(model: Model) -> Model:
    """Return the model as its network alone ranks."""
    return replace(model, graph=None)


def with_graph(model: Model, interactions: Interactions) -> Model:
    """Return a baseline trained on these interactions with the item graph added as the Transformer's is.

    The graph is counted on the same split, and multiplied by what ranks the baseline's own validation best.
    """
    split = _plain_split(interactions)
    graph = build(split.train.ad, steps_of(split.train.offsets, split.train.ad), len(split.vocabulary) + 1)
    blended, metrics = blend_and_measure(model.network, graph, split.holdout.sample(VALIDATION_USERS))
    return replace(model, graph=blended, metrics=metrics)


def train_baseline(
    name: str, interactions: Interactions, options: TrainOptions, like: ModelConfig | None = None
) -> tuple[Model, float]:
    """Train one of NEURAL on the same split; return it and its CPU minutes.

    ``sasrec`` is the plain network: no gaps, content or item graph, trained as the Transformer is. All have
    the sizes and the dropout of ``like``, or the default sizes and the dropout that suits the data.
    """
    started = time.process_time()
    split = _plain_split(interactions)
    suited = ModelConfig(len(split.vocabulary), dropout=default_dropout(split))
    config = replace(suited if like is None else like, vocabulary=len(split.vocabulary), **PLAIN)
    network = {"mlp": PooledMlp, "gru": Gru, "sasrec": Transformer}[name]
    trained = train(split, config, options, network=network, spent_s=time.process_time() - started)
    return Model(trained.model, split.vocabulary), (time.process_time() - started) / 60


def _plain_split(interactions: Interactions) -> Split:
    """Return the split for networks that read no categories and no times, in any buckets."""
    ads = items_table(interactions)
    return from_interactions(interactions, ads, np.zeros((len(ads.key), 0), np.float32), Buckets())
