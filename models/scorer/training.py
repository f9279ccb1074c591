"""Training of the Transformer: one loop for interaction files and recorded logs, CPU and GPU.

    Split --Pieces.epoch--> Batch --hidden--> next-item loss + second-stage loss --AdamW--> TrainedModel

The learning rate rises over a short warm-up and falls linearly to 0 at the end of the budget, so a run
of five minutes and one of fifteen both end well. Time is the process's CPU time, given as a function.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.domain.errors import LogError, SettingError
from models.domain.ids import content_hash

from .batches import Batch, Pieces
from .checkpoint import SCHEMA, Progress, State
from .config import ModelConfig
from .datasets import Split
from .impressions import Shown
from .losses import (
    Catalogue,
    NegativeSampler,
    NextItems,
    impression_loss,
    log_counts,
    next_item_loss,
    stand_in_loss,
)
from .optimizer import Optimizer
from .options import TrainOptions
from .rates import click_rates, conversion_rates
from .sequences import Dataset, hash_arrays
from .transformer import Transformer
from .validation import validation_gain

VALIDATION_USERS = 1500
STAND_IN_EVERY = 4
FINISHING = 5
"""What comes after training costs about this many validations; so much of the budget is kept back."""


@dataclass(frozen=True)
class Report:
    """What the progress callback is told after a step."""

    share: float
    step: int
    epoch: int
    loss: float
    gain: float


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network and how it came about; ``curve`` holds (step, loss, validation gain).

    ``cpu_s`` is the CPU time of all processes: this one's, and that of those before it up to the checkpoint
    that it went on from.
    """

    model: Transformer
    cpu_s: float
    steps: int
    epochs: int
    curve: list[tuple[int, float, float]] = field(default_factory=list)


TOLERANCE = 0.003
"""A log loss so much worse, relatively, counts as no worse: chance, against the longer training."""

Clock = Callable[[], float]
Listener = Callable[[Report], None]


def train(
    split: Split,
    config: ModelConfig,
    options: TrainOptions,
    *,
    listener: Listener | None = None,
    checkpoints: Path | None = None,
    clock: Clock = time.process_time,
    spent_s: float = 0.0,
    network: type[Transformer] = Transformer,
) -> TrainedModel:
    """Train until the budget is spent or the validation stops gaining; return the best weights.

    Where nothing is held out to validate on, the best weights are the last ones.

    Parameters
    ----------
    split
        Data, hold-out and vocabulary; ``config.vocabulary`` must be its size.
    listener
        Called after every step.
    checkpoints
        Folder to write checkpoints to, and to go on from where one is there.
    clock
        CPU seconds; ``spent_s`` of the budget is used already.
    network
        The class to build; baselines bring their own.

    Raises
    ------
    LogError
        where no user has two events to learn from.
    SettingError
        where CUDA is asked for and missing.

    """
    _check(split, config, options)
    run = _Run(split, build_model(config, split.train, options.seed, network), options, clock, spent_s)
    if checkpoints is not None:
        run.resume(checkpoints)
    for report in run.steps():
        if listener is not None:
            listener(report)
    return run.finish()


class _Run:
    def __init__(
        self, split: Split, model: Transformer, options: TrainOptions, clock: Clock, spent_s: float
    ) -> None:
        self.split, self.options, self.clock = split, options, clock
        self.device = torch.device(options.device)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        self.model, config = model.to(self.device), model.config
        self.pace = options.pace(bool(config.slots))
        self.optimizer = Optimizer(self.model, self.pace, options.clip, options.sparse_from)
        counts = torch.from_numpy(split.train.counts)
        power = 0.0 if options.loss == "gbce" else options.negative_power
        self.sampler = NegativeSampler(counts, power, options.seed, self.device)
        hidden = options.id_dropout if config.use_category or config.content_dim else 0.0
        self.catalogue = Catalogue.of(split.train, self.device, hidden)
        self.targets = NextItems(split.train, self.device)
        self.pieces = Pieces(split.train, options.labels)
        self.holdout = split.holdout.sample(VALIDATION_USERS)
        self.state = State(self.model, self.optimizer, self.sampler.generator, {}, Progress(cpu_s=spent_s))
        self.started = clock() - spent_s
        self.folder: Path | None = None
        self.saved_s = spent_s
        self.epoch_batches = math.inf  # not known before the first

    def resume(self, folder: Path) -> None:
        """Save progress in this folder, and go on from what it holds of the same training.

        What the processes before took up to the checkpoint counts, beside what this one took already.
        """
        self.folder = folder
        if self.state.load(folder, self.fingerprint()):
            self.started -= self.state.progress.cpu_s
            self.saved_s = self.state.progress.cpu_s

    def fingerprint(self) -> str:
        """Return the hash of data, network and options, which a checkpoint must share."""
        train = self.split.train
        described = hash_arrays(train.category_of, train.content, train.ads_content, train.campaign_of)
        network = type(self.model).__name__, self.model.config, *self.model.state_dict()
        what = (SCHEMA, self.split.data_hash, described, network, self.options)
        return content_hash(repr(what).encode())

    def share(self) -> float:
        """Return how much of the budget is spent."""
        if self.options.steps is not None:
            return self.state.progress.step / self.options.steps
        progress = self.state.progress
        budget = self.options.minutes * 60 - FINISHING * progress.validation_s
        spent = (self.clock() - self.started) / max(budget, 1.0)
        return max(spent, (progress.epoch + progress.batch / self.epoch_batches) / self.pace.passes)

    def steps(self) -> Iterator[Report]:
        """Train until the budget or the patience ends; yield a report after every step."""
        self.model.train()
        share = self.share()
        while share < 1 and self.state.progress.stale < self.options.patience:
            for batch in self._epoch():
                loss = self.step(batch, share)
                progress = self.state.progress
                self.state.progress = progress.later(
                    batch=progress.batch + 1, step=progress.step + 1, cpu_s=self.clock() - self.started
                )
                share = self.share()
                self._validate_when_due(share, loss)
                yield Report(share, progress.step + 1, progress.epoch, loss, self.state.progress.best_gain)
                self._save_when_due()
                if share >= 1 or self.state.progress.stale >= self.options.patience:
                    return
            self.state.progress = self.state.progress.later(epoch=self.state.progress.epoch + 1, batch=0)

    def _epoch(self) -> Iterator[Batch]:
        progress = self.state.progress
        rng = np.random.default_rng((self.options.seed, progress.epoch))
        pieces = self.pieces.pass_over(self.pace.piece, self.options.tokens, rng)
        self.epoch_batches = len(pieces)
        for number, (start, stop) in enumerate(pieces):
            batch = self.pieces.batch(start, stop, rng)
            if number >= progress.batch:
                yield batch.to(self.device)

    def step(self, batch: Batch, share: float) -> float:
        """Take one step of the optimizer and return its loss."""
        with self._autocast():
            loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(schedule(share, self.options.warmup))
        return float(loss.detach())

    def loss(self, batch: Batch) -> Tensor:
        """Return the next-item loss of a batch plus that of the second stage."""
        h = self.model.hidden(batch.events)  # [B, T, D]
        with torch.autocast(self.device.type, enabled=False):
            h, train = h.float(), self.split.train
            labels = train.labels.take(batch.shown.label)
            shown = Shown.of(self.model, h, batch.shown.row, batch.shown.end, labels)
            groups = self.targets.of(self.model, h, batch, shown)
            drawn = (self.catalogue, self.sampler, self.options)
            count = max(sum(len(group.ad) for group in groups), 1)
            losses = [len(group.ad) / count * next_item_loss(self.model, group, *drawn) for group in groups]
            return torch.stack(losses).sum() + self.options.heads_weight * self._heads_loss(h, batch, shown)

    def _heads_loss(self, h: Tensor, batch: Batch, shown: Shown) -> Tensor:
        if len(shown.labels):
            return impression_loss(self.model, shown, self.split.train, self.catalogue.id_dropout)
        if len(self.split.train.labels) == 0 and self.state.progress.step % STAND_IN_EVERY == 0:
            return stand_in_loss(self.model, h, batch, self.catalogue, self.sampler)
        return torch.zeros((), device=h.device)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

    def _validate_when_due(self, share: float, loss: float) -> None:
        progress = self.state.progress
        due = min(int(share * self.options.validations), self.options.validations)
        if due <= progress.validated:
            return
        before = self.clock()
        gain = validation_gain(self.model, self.holdout)
        if gain is None:
            self.state.progress = progress.later(validated=due)
            return
        took_s = self.clock() - before
        better = gain > self._to_beat()
        if better:
            self.state.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.state.curve.append((progress.step, loss, gain))
        self.state.progress = progress.later(
            validated=due,
            validation_s=took_s,
            best_gain=max(gain, progress.best_gain),
            stale=0 if better else progress.stale + 1,
        )

    def _to_beat(self) -> float:
        best = self.state.progress.best_gain
        return best - TOLERANCE * abs(best) if self.model.config.slots else best

    def _save_when_due(self) -> None:
        now = self.state.progress.cpu_s
        if self.folder is not None and now - self.saved_s >= self.options.checkpoint_every_s:
            self.state.save(self.folder, self.fingerprint())
            self.saved_s = now

    def finish(self) -> TrainedModel:
        """Return the best weights and how they came about."""
        if self.state.best:
            self.model.load_state_dict(self.state.best)
        self.model.eval()
        progress = self.state.progress
        return TrainedModel(
            self.model, self.clock() - self.started, progress.step, progress.epoch, self.state.curve
        )


def schedule(share: float, warmup: float) -> float:
    """Return the learning rate's factor when ``share`` of the budget is spent."""
    if share < warmup:
        return share / warmup
    return max(0.0, (1 - share) / (1 - warmup))


def build_model(
    config: ModelConfig, dataset: Dataset, seed: int, network: type[Transformer] = Transformer
) -> Transformer:
    """Return a fresh network, seeded, with what counting tells in its biases."""
    torch.manual_seed(seed)
    model = network(config)
    if config.slots:
        start_from_rates(model, dataset)
    else:
        model.log_popularity.copy_(log_counts(dataset.counts))
    return model


def start_from_rates(model: Transformer, dataset: Dataset) -> None:
    """Begin where counting ends, so that the network learns what is left: who likes what.

    Ads' biases are their click rates and stay as they are until all else is settled (refit.py): shrunk, which
    the same clicks would undo. Ads' own vectors and the second stage's say begin at 0: an ad is its category
    and content until proven.
    """
    clicks = click_rates(dataset, model.config.slots, model.config.segments)
    conversions = conversion_rates(dataset)
    if model.config.segments:
        model.segment_logits[:, : clicks.segments.shape[1]] = torch.from_numpy(clicks.segments)
    model.log_popularity.copy_(torch.from_numpy(clicks.ads))
    model.conversion_bias.copy_(torch.from_numpy(conversions.ads))
    model.bias_scale.requires_grad_(False)
    with torch.no_grad():
        model.slot_logits.copy_(torch.from_numpy(clicks.slots))
        model.shortcut_scale.copy_(torch.tensor([1.0, 0.0]))
        model.shortcut_offset.copy_(torch.tensor([clicks.first_slot, conversions.of_click]).logit())
        for name in ("head_out", "ad", "category_out", "content"):
            if hasattr(model, name):
                model.get_parameter(f"{name}.weight").zero_()


def _check(split: Split, config: ModelConfig, options: TrainOptions) -> None:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SettingError.expected(
            "--device", got="cuda", expected="a CUDA device", fix="use --device cpu or install a CUDA build"
        )
    if config.vocabulary != len(split.vocabulary):
        raise SettingError.expected(
            "model.vocabulary",
            got=config.vocabulary,
            expected=str(len(split.vocabulary)),
            fix="match the data",
        )
    if not split.train.counts.any() or np.diff(split.train.offsets).max(initial=0) < 2:
        raise LogError.expected(
            "training data",
            got=f"{len(split.train.ad)} events of {len(split.train.offsets) - 1} users",
            expected="a user with at least two events to learn from",
            fix="give a longer log or file",
        )
