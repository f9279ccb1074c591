"""A/B tests: who is in which arm, whether the split is sound, and what the difference is.

Assignment is by a hash of salt and user, so it needs no state and replays. Users are the unit: a ratio
such as CTR is compared by the delta method (Deng et al., KDD'18) with Welch's t, variance is cut by CUPED
(Deng et al., WSDM'13), and a sample-ratio mismatch (Fabijan et al., KDD'19) voids the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, stdtr, stdtrit

from models.domain.errors import ImpulseError
from models.domain.ids import key64

from .draws import F64

MISMATCH_P = 1e-3
"""A split this unlikely is a defect, not chance."""


def arm_of(user_id: str, salt: str, shares: Sequence[float]) -> int:
    """Return the arm of a user: arm i with probability ``shares[i]``, the same for ever for one salt."""
    place = key64(f"{salt}\0{user_id}") / 2**64 * float(sum(shares))
    edges = np.cumsum(shares)
    return min(int(np.searchsorted(edges, place, side="right")), len(shares) - 1)


def sample_ratio_p(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the p-value of Pearson's χ² test that users fell into the arms by `shares`."""
    n, share = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if n.sum() == 0 or (share <= 0).any():
        raise ImpulseError.expected(
            "arms", got=(counts, shares), expected="users and positive shares", fix="check the split"
        )
    hoped = n.sum() * share / share.sum()
    return float(chdtrc(len(n) - 1, ((n - hoped) ** 2 / hoped).sum()))


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm's sums per user, `[U]` each: a ratio metric is Σ numerator / Σ denominator."""

    numerator: F64
    denominator: F64
    before: F64 | None = None
    """A covariate per user from before the test (say, their earlier CTR), for CUPED."""

    @property
    def ratio(self) -> float:
        """The metric."""
        return float(self.numerator.sum() / self.denominator.sum())

    @property
    def linearised(self) -> F64:
        """Per-user values whose mean is the metric and whose variance is the delta method's."""
        per_user = float(self.denominator.mean())
        return self.ratio + (self.numerator - self.ratio * self.denominator) / per_user


@dataclass(frozen=True)
class Comparison:
    """Treatment against control. `low` and `high` bound the difference; relative ones are in `lift`."""

    control: float
    treatment: float
    difference: float
    low: float
    high: float
    p_value: float
    sample_ratio_p: float
    variance_cut: float
    """Share of the variance that CUPED took away."""

    @property
    def lift(self) -> float:
        """The difference relative to the control."""
        return self.difference / self.control

    @property
    def sound(self) -> bool:
        """Whether the arms are as large as they should be; if not, no figure here may be used."""
        return self.sample_ratio_p >= MISMATCH_P


def compare(
    control: Arm, treatment: Arm, shares: Sequence[float] = (0.5, 0.5), level: float = 0.95, *,
    split: Sequence[int] | None = None,
) -> Comparison:  # fmt: skip
    """Return the comparison of two arms.

    Parameters
    ----------
    shares
        Of the assignment.
    split
        Users assigned to each arm who turned up, whatever they did then; None: those of the arms.

    Raises
    ------
    ImpulseError
        An arm has fewer than two users or nothing in its denominator.

    """
    for arm in (control, treatment):
        if len(arm.numerator) < 2 or arm.denominator.sum() <= 0:
            raise ImpulseError.expected(
                "arm", got=f"{len(arm.numerator)} users", expected="two or more users with exposure",
                fix="let the test run longer",
            )  # fmt: skip
    raw = (control.linearised, treatment.linearised)
    values = cuped(raw, (control.before, treatment.before))
    means, errors = [float(v.mean()) for v in values], [float(v.var(ddof=1)) / len(v) for v in values]
    difference, error = means[1] - means[0], float(np.sqrt(sum(errors)))
    freedom = welch_freedom(errors, [len(v) for v in values])
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    before = sum(float(v.var(ddof=1)) / len(v) for v in raw)
    return Comparison(
        control=control.ratio,
        treatment=treatment.ratio,
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=float(2 * stdtr(freedom, -abs(difference) / error)) if error else float(difference == 0),
        sample_ratio_p=sample_ratio_p(split or [len(v) for v in values], shares),
        variance_cut=1 - sum(errors) / before if before else 0.0,
    )


def welch_freedom(errors: Sequence[float], users: Sequence[int]) -> float:
    """Return the degrees of freedom of Welch's t, by each arm's squared standard error and users (>= 2)."""
    spread = sum(error**2 / (n - 1) for error, n in zip(errors, users, strict=True))
    return sum(errors) ** 2 / spread if spread else float(sum(users) - len(users))


def cuped(values: tuple[F64, F64], before: tuple[F64 | None, F64 | None]) -> tuple[F64, F64]:
    """Return the values less what the covariate explains, θ pooled over both arms; unchanged without."""
    if before[0] is None or before[1] is None:
        return values
    x, y = np.concatenate([before[0], before[1]]), np.concatenate(values)
    spread = float(x.var())
    theta = float(np.cov(x, y, ddof=0)[0, 1]) / spread if spread else 0.0
    center = float(x.mean())
    return values[0] - theta * (before[0] - center), values[1] - theta * (before[1] - center)
