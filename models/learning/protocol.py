"""What the one logical learner asks of an engine, on columnar batches.

Legend: N examples, F = 6 features of each, M changed weights. A feature is a slot (dense id) of the
learner's vocabulary; column f of an example always holds the same group, so the model reads

    pctr = sigmoid(offset + w[bias] + w[ad] + w[campaign] + w[segment x category]
                   + w[creative] + w[segment x creative]),

where the offset is the logged base logit + the log examination odds of the slot + the user x category
part (learned in the user's shard, which takes these weights as its offset in turn).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .weights import WIDEST

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

GROUPS = ("bias", "ad", "campaign", "segment_category", "creative", "segment_creative")
"""Group of each feature column; also the names of the prior variances in `Priors`."""

NO_FEATURE = -1


@dataclass(frozen=True, eq=False)
class Examples:
    """N examples, in the order to learn them.

    An example with ``age_ms >= 0`` is a correction: its ``label`` is the right label less the one that
    was learned ``age_ms`` ago (a late click: +1), or a graded preference in -1..1 that carries no
    information on the rate; it moves means and leaves variances.
    """

    feature: I32
    """`[N, F]` slots, NO_FEATURE for none."""
    offset: F64
    """`[N]` logits."""
    label: F64
    """`[N]` in 0..1; of corrections in -1..1."""
    time_ms: I64
    """`[N]` event time."""
    weight: F64
    """`[N]` above 0."""
    age_ms: I64
    """`[N]` -1 for fresh examples."""

    def __len__(self) -> int:
        return len(self.label)

    def usable(self) -> NDArray[np.bool_]:
        """Return which examples `[N]` can be learned from: finite, in range, with a positive weight."""
        lowest = np.where(self.age_ms >= 0, -1.0, 0.0)
        labelled = (self.label >= lowest) & (self.label <= 1.0)
        return labelled & np.isfinite(self.offset) & (self.weight > 0) & np.isfinite(self.weight)

    def take(self, chosen: NDArray[np.bool_]) -> Examples:
        """Return the examples where ``chosen`` `[N]` is true."""
        return Examples(
            self.feature[chosen],
            self.offset[chosen],
            self.label[chosen],
            self.time_ms[chosen],
            self.weight[chosen],
            self.age_ms[chosen],
        )


class Changed(NamedTuple):
    """Weights that differ from what was last reported, in logits: arrays `[M]`, by ascending slot."""

    slot: I64
    mean: F64
    variance: F64

    def rounded(self) -> tuple[list[int], list[float], list[float]]:
        """Return plain lists; five decimals are a hundredth of the tolerance and keep records short.

        Variances wider than a record may say are said as wide as that.
        """
        variance = np.round(np.minimum(self.variance, WIDEST), 6)
        return self.slot.tolist(), np.round(self.mean, 5).tolist(), variance.tolist()


class Engine(Protocol):
    """One way to learn the adjustments. All of them pass `tests/unit/learning/test_engines.py`."""

    name: str

    def learn(self, examples: Examples) -> int:
        """Learn from the examples in order; return how many were refused (`Examples.usable`)."""
        ...

    def move(self, slot: I64, group: int, step: F64, time_ms: int) -> None:
        """Add steps `[M]`, in logits, to the means of distinct slots of a group: news from elsewhere.

        Variances, where an engine has them, grow by a quarter of the squared step.
        """
        ...

    def posterior(self, slot: I64, time_ms: int) -> tuple[F64, F64]:
        """Return mean and variance `[M]` of these slots' weights, decayed to ``time_ms``."""
        ...

    def changed(self, time_ms: int, most: int | None = None) -> Changed:
        """Return the weights that moved by more than the tolerance since they were last returned.

        At most ``most`` of them, the largest moves first; the others wait for the next call.
        """
        ...

    def announce_again(self) -> None:
        """Let `changed` return every weight once more that it has returned before."""
        ...

    def forget(self, slot: I64) -> None:
        """Return these slots to the prior: they are given to other features."""
        ...

    def reset(self) -> None:
        """Return every weight to the prior."""
        ...

    def to_bytes(self) -> bytes:
        """Return the whole state."""
        ...

    def restore(self, data: bytes) -> None:
        """Take the state of `to_bytes` of the same engine; raises ArtifactError for any other."""
        ...
