"""How a model is trained; the defaults are the same for every data set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from models.domain.errors import SettingError


class Pace(NamedTuple):
    """How a network learns: AdamW's figures, the ads' share of the rate, most passes, longest pieces."""

    learning_rate: float
    weight_decay: float
    ad_rate: float
    passes: float
    piece: int

    def to_dict(self) -> dict[str, float | None]:
        """Return the figures as JSON-ready values, None for no limit."""
        return {name: value if math.isfinite(value) else None for name, value in self._asdict().items()}


FOR_SEQUENCES = Pace(learning_rate=1e-2, weight_decay=0.01, ad_rate=1.0, passes=math.inf, piece=200)
FOR_IMPRESSIONS = Pace(learning_rate=5e-3, weight_decay=1.0, ad_rate=0.1, passes=8.0, piece=24)


@dataclass(frozen=True)
class TrainOptions:
    """Budget, optimiser and losses of one training run.

    Parameters
    ----------
    minutes
        CPU minutes of the whole run (GPU: of this process), reading and validation included; the
        learning rate falls linearly to 0 at their end. Fitting views and ads to the whole log comes on top,
        some 20 s per million impressions. Ignored where ``steps`` is given.
    steps
        Exact number of steps instead: the run is then reproducible to the last bit.
    learning_rate, weight_decay, ad_rate
        AdamW's, and the learning rate of the ads' own vectors in units of it. None: what suits the data, see
        `pace`.
    passes
        Most passes over the data, however large the budget; the learning rate then ends at 0 with them.
        None: what suits the data, which for sequences is no limit.
    warmup, clip
        Share of the budget with a rising learning rate; the gradient's norm.
    sparse_from
        Ads from which on a step updates only the rows of the ad table that it met; below, the update of all
        is as fast and exact.
    tokens
        Padded inputs per batch; ``piece`` is the longest piece of a sequence (None: what suits the data).
    loss
        Of foreseeing the next item: ``softmax`` (sampled, with logQ correction) or ``gbce``.
    negatives, negative_power
        Shared negatives per batch, drawn with probability ~ count^power (uniformly for ``gbce``).
    gbce_t
        How much of what drawing few negatives does to the scores ``gbce`` takes back, in [0, 1].
    id_dropout
        Share of ads whose id is hidden, so that content and category learn to stand alone; only where
        the model has content or categories.
    heads_weight
        Weight of the second stage's loss beside the next-item loss.
    labels
        Most impressions per batch for the second stage.
    validations, patience
        How often the validation data is ranked, and after how many without a gain training stops.
    checkpoint_every_s
        CPU seconds between checkpoints, where a folder for them is given.

    """

    minutes: float = 5.0
    steps: int | None = None
    seed: int = 0
    device: str = "cpu"
    learning_rate: float | None = None
    weight_decay: float | None = None
    ad_rate: float | None = None
    passes: float | None = None
    warmup: float = 0.05
    clip: float = 1.0
    sparse_from: int = 50_000
    tokens: int = 2048
    piece: int | None = None
    loss: str = "softmax"
    gbce_t: float = 0.75
    negatives: int = 256
    negative_power: float = 0.5
    id_dropout: float = 0.1
    heads_weight: float = 1.0
    labels: int = 4096
    validations: int = 5
    patience: int = 3
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        rules = [
            (self.minutes <= 0, "minutes", "above 0"),
            (self.steps is not None and self.steps < 1, "steps", "at least 1"),
            (self.device not in ("cpu", "cuda"), "device", "cpu or cuda"),
            (self.piece is not None and self.piece < 2, "piece", "at least 2"),
            (self.tokens < (self.piece or FOR_SEQUENCES.piece), "tokens", "at least `piece`"),
            (self.negatives < 1, "negatives", "at least 1"),
            (self.loss not in ("softmax", "gbce"), "loss", "softmax or gbce"),
            (not 0 <= self.gbce_t <= 1, "gbce_t", "in [0, 1]"),
            (not 0 <= self.id_dropout < 1, "id_dropout", "in [0, 1)"),
        ]
        for wrong, field, expected in rules:
            if wrong:
                got = getattr(self, field)
                raise SettingError.expected(f"training.{field}", got=got, expected=expected, fix="change it")

    def pace(self, impressions: bool) -> Pace:
        """Return the pace asked for, with what was left open filled in.

        Clicks on shown ads are few and mostly chance, so a log with impressions is learned slowly, held to
        small weights, and not read often enough to be learned by heart; an ad's own vector moves a tenth as
        fast as those of its category and content, which many ads share. Its sequences are cut short, so that
        the network knows what to make of users who are new.
        """
        suited = FOR_IMPRESSIONS if impressions else FOR_SEQUENCES
        asked = {name: getattr(self, name) for name in Pace._fields}
        return suited._replace(**{name: value for name, value in asked.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON-ready values."""
        return asdict(self)
