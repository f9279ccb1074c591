"""Whether predicted probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .draws import F64

EPSILON = 1e-12


@dataclass(frozen=True, eq=False)
class Reliability:
    """The reliability curve, one row per bin `[bins]` that holds rows."""

    predicted: F64
    observed: F64
    count: F64

    @property
    def error(self) -> float:
        """Expected calibration error: Σ n·|predicted − observed| / Σ n."""
        gaps = np.abs(self.predicted - self.observed)
        return float((self.count * gaps).sum() / max(float(self.count.sum()), 1.0))


def reliability(predicted: F64, label: F64, bins: int = 20) -> Reliability:
    """Return the reliability curve over bins of equally many rows (few clicks make equal widths empty).

    Equal predictions share a bin, so constant predictions give one.
    """
    if not len(predicted):
        return Reliability(np.zeros(0), np.zeros(0), np.zeros(0))
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, predicted, side="left")
    count = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
    held = count > 0
    sums = [np.bincount(place, weights=x, minlength=len(count))[held] for x in (predicted, label)]
    return Reliability(sums[0] / count[held], sums[1] / count[held], count[held])


def expected_calibration_error(predicted: F64, label: F64, bins: int = 20) -> float:
    """Return the ECE over `bins` bins of equally many rows; 0 for no rows."""
    return reliability(predicted, label, bins).error


def log_loss(predicted: F64, label: F64) -> float:
    """Return the mean negative log-likelihood in nats; nan for no rows."""
    p = np.clip(predicted, EPSILON, 1 - EPSILON)
    losses = -(label * np.log(p) + (1 - label) * np.log1p(-p))
    return float(losses.mean()) if len(losses) else float("nan")


def normalised_entropy(predicted: F64, label: F64) -> float:
    """Return the log loss over that of the constant mean label (He et al., ADKDD'14); below 1 is better.

    nan where the labels are all equal.
    """
    rate = float(label.mean()) if len(label) else 0.0
    if not 0 < rate < 1:
        return float("nan")
    return log_loss(predicted, label) / log_loss(np.full(len(label), rate), label)


def auc(predicted: F64, label: F64) -> float:
    """Return the area under the ROC curve (exact, ties count half); nan where labels are all equal."""
    positives = float(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(predicted, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((rank[label > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))
