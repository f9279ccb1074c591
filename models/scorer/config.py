"""Sizes and switches of the Transformer; no torch here, so that serving can read them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec

from models.domain.errors import ArtifactError, SettingError
from models.domain.events import KINDS

TYPICAL_PCTR, TYPICAL_PCVR = 0.05, 0.1
"""Clicks per impression and conversions per click of ads worth showing, until a log has told."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shapes and the maths of the network (see transformer.py).

    Parameters
    ----------
    vocabulary
        Number V of known ads or items; the ad table has V + 1 rows and row 0 is "unknown".
    d_model, blocks, heads
        Width D, number of blocks, heads H; the head dimension is D / H.
    window
        Band W: a position attends to itself and to the W - 1 positions before it.
    rotary_length, rotary_base
        Rows of the rotary table (a power of two) and the base of its geometric frequencies.
    ffn_multiple
        Width of the feed-forward layer in units of D.
    head_width
        Hidden width M of the second stage's MLP.
    categories, dwell_buckets, gap_buckets
        Rows of the feature tables; bucket 0 of each means "none". Gaps are those before events and requests.
    use_category, use_kind, use_dwell, use_gap
        Whether an event's embedding (and, for the category, the ad tower) has this part.
    use_wait
        Whether a user's vector depends on the time from the last event to the request.
    content_dim
        Length of the ads' content vectors; 0 for none.
    slots
        Slots whose examination training tells from the ads' appeal; 0 where the data has no impressions.
    segments
        Segments of users that training counts clicks of; 0 where the data names none.
    dropout
        Of embeddings and residual branches, in training only; `fitting.default_dropout` fits it to the data.

    """

    vocabulary: int
    d_model: int = 64
    blocks: int = 2
    heads: int = 2
    window: int = 50
    rotary_length: int = 1024
    rotary_base: float = 1000.0
    ffn_multiple: int = 1
    head_width: int = 64
    categories: int = 1024
    dwell_buckets: int = 20
    gap_buckets: int = 24
    use_category: bool = True
    use_kind: bool = True
    use_dwell: bool = True
    use_gap: bool = True
    use_wait: bool = False
    content_dim: int = 0
    slots: int = 0
    segments: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for wrong, field, expected in self._rules():
            if wrong:
                raise SettingError.expected(
                    f"model.{field}", got=getattr(self, field), expected=expected, fix=f"change {field}"
                )

    def _rules(self) -> list[tuple[bool, str, str]]:
        sizes = ("vocabulary", "d_model", "blocks", "heads", "window", "ffn_multiple", "head_width")
        rules = [(getattr(self, name) < 1, name, "at least 1") for name in sizes]
        divides = self.heads > 0 and self.d_model % (2 * self.heads) == 0
        power = self.rotary_length > 0 and self.rotary_length & (self.rotary_length - 1) == 0
        return [
            *rules,
            (not divides, "d_model", "a multiple of 2 * heads"),
            (not power, "rotary_length", "a power of two"),
            (self.rotary_length < 2 * self.window, "rotary_length", "at least 2 * window"),
            (not 0 < self.rotary_base < math.inf, "rotary_base", "a number above 0"),
            (self.content_dim < 0, "content_dim", "0 or more"),
            (self.slots < 0, "slots", "0 or more"),
            (self.segments < 0, "segments", "0 or more"),
            (min(self.categories, self.dwell_buckets, self.gap_buckets) < 2, "categories", "2 or more"),
            (not 0 <= self.dropout < 1, "dropout", "in [0, 1)"),
        ]

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.d_model // self.heads

    @property
    def receptive_field(self) -> int:
        """Events that a hidden state depends on: what a user's vector is made of."""
        return self.blocks * (self.window - 1) + 1

    @property
    def history_length(self) -> int:
        """Events that rebuild a user's cache exactly: all that target attention sees, and one for a gap."""
        return self.blocks * (self.window - 1) + self.window + 1

    def cycles(self) -> list[int]:
        """Return the whole turns k_i that each rotary pair makes over the table's length.

        The angle of pair i at position p is ``2 pi k_i p / rotary_length``: periodic in the table's
        length, so positions may wrap without breaking keys rotated before the wrap.
        """
        pairs = self.head_dim // 2
        turns = self.rotary_length / (2 * math.pi)
        return [max(1, round(turns * self.rotary_base ** (-i / pairs))) for i in range(pairs)]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Return the config that `to_dict` wrote; ArtifactError where a field is unknown or impossible."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ArtifactError.expected(
                "model config", got=unknown, expected="fields of this version", fix="train the model again"
            )
        try:
            return msgspec.convert(values, cls)
        except (msgspec.ValidationError, SettingError) as error:
            raise ArtifactError.expected(
                "model config", got=str(error), expected="sizes that can be", fix="train the model again"
            ) from error


def check_history(model: str, reads: int, kept: int) -> None:
    """Refuse a model that reads more events of a user than are kept; raises ArtifactError."""
    if reads > kept:
        raise ArtifactError.expected(
            f"events kept per user, of which model {model} reads {reads}",
            got=kept,
            expected=f"{reads} or more",
            fix=f"set bounds.history_length (IMPULSE_BOUNDS__HISTORY_LENGTH) to {reads} wherever it is to "
            "decide, or train with a smaller window or fewer blocks",
        )


MODEL_KINDS = len(KINDS)
"""Rows of the table of event kinds."""
