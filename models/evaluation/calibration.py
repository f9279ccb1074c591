"""Whether predicted probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.scorer import metrics

from .draws import F64


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
    return Reliability(*metrics.binned(predicted, label, bins))


def expected_calibration_error(predicted: F64, label: F64, bins: int = 20) -> float:
    """Return the ECE over `bins` bins of equally many rows; nan for no rows."""
    return reliability(predicted, label, bins).error if len(label) else float("nan")


def log_loss(predicted: F64, label: F64) -> float:
    """Return the mean negative log-likelihood in nats; nan for no rows."""
    return metrics.logloss(label > 0, predicted) if len(label) else float("nan")


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
    return metrics.auc(label > 0, predicted)
