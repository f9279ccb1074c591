"""How a model is trained; the defaults are the same for every data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from models.domain.errors import SettingError


@dataclass(frozen=True)
class TrainOptions:
    """Budget, optimiser and losses of one training run.

    Parameters
    ----------
    minutes
        CPU minutes of the whole run (GPU: of this process), reading and validation included; the
        learning rate falls linearly to 0 at their end. Ignored where ``steps`` is given.
    steps
        Exact number of steps instead: the run is then reproducible to the last bit.
    learning_rate, warmup, weight_decay, clip
        AdamW; ``warmup`` is the share of the budget with a rising rate; ``clip`` the gradient's norm.
    tokens
        Padded inputs per batch; ``piece`` is the longest piece of a sequence.
    negatives, negative_power
        Shared negatives per batch, drawn with probability ~ count^power.
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
    learning_rate: float = 1e-2
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    tokens: int = 2048
    piece: int = 200
    negatives: int = 256
    negative_power: float = 0.5
    id_dropout: float = 0.1
    heads_weight: float = 1.0
    labels: int = 512
    validations: int = 5
    patience: int = 3
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        rules = [
            (self.minutes <= 0, "minutes", "above 0"),
            (self.steps is not None and self.steps < 1, "steps", "at least 1"),
            (self.device not in ("cpu", "cuda"), "device", "cpu or cuda"),
            (self.piece < 2 or self.tokens < self.piece, "tokens", "at least `piece`, which is at least 2"),
            (self.negatives < 1, "negatives", "at least 1"),
            (not 0 <= self.id_dropout < 1, "id_dropout", "in [0, 1)"),
        ]
        for wrong, field, expected in rules:
            if wrong:
                got = getattr(self, field)
                raise SettingError.expected(f"training.{field}", got=got, expected=expected, fix="change it")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON-ready values."""
        return asdict(self)
