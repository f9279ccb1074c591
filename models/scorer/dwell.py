"""How long a user stays with an ad after the click: a head on what the second stage knows, fitted last.

    log ms = mean_a + w . (hidden - centre),   ms = exp(log ms + smear)

``hidden`` is the inner layer of the second stage (transformer.py), as training left it: dwell bends nothing
of what clicks taught, and what serves clicks stays as it was. mean_a is the ad's mean, shrunk to everyone's
by the variance within ads against that between them (one-way random effects); w is a ridge regression of
what the means leave, its penalty by generalised cross-validation (Golub, Heath & Wahba 1979), which may say
that no w at all is best. The mean of a log is not the log of the mean: ``smear`` is Duan's (1983) correction.
No torch here, so that serving can read it.
Legend: N clicks with a known stay, M inner width, V known ads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .metrics import clustered_error
from .weights import tensor

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEAST_STAYS = 200
"""Fewer clicks with a stay teach nothing worth serving."""
FOLDS = 5
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
SHORTEST_MS = 1.0
DWELL_WEIGHT, DWELL_MEAN, DWELL_SMEAR = "dwell_weight", "dwell_mean", "dwell_smear"


@dataclass(frozen=True, eq=False)
class DwellHead:
    """``weight`` `[M]`; ``mean`` `[V + 1]` log ms of each row of the ad table, less w . centre; ``smear``."""

    weight: F32
    mean: F32
    smear: float

    def log_ms(self, hidden: F32, ad: I64) -> F64:
        """Return the expected log of the stay `[N]` after clicks with ``hidden`` `[N, M]` on rows ``ad``."""
        return (hidden.astype(np.float64) @ self.weight + self.mean[ad]).astype(np.float64)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that belong into the artifact."""
        smear = np.array([self.smear], np.float32)
        return {DWELL_WEIGHT: self.weight, DWELL_MEAN: self.mean, DWELL_SMEAR: smear}


def stored_dwell(tensors: Mapping[str, NDArray[Any]], inner: int, rows: int) -> DwellHead | None:
    """Return the head among a model's tensors, if it has one; ArtifactError where it does not fit."""
    if DWELL_WEIGHT not in tensors:
        return None
    weight, mean = tensor(tensors, DWELL_WEIGHT, (inner,)), tensor(tensors, DWELL_MEAN, (rows,))
    return DwellHead(weight, mean, float(tensor(tensors, DWELL_SMEAR, (1,))[0]))


def ad_means(log_ms: F64, ad: I64, rows: int) -> F64:
    """Return the shrunk mean `[rows]` of each ad's stays, everyone's where an ad has none."""
    mean = float(log_ms.mean())
    count, total = np.bincount(ad, minlength=rows), np.bincount(ad, log_ms - mean, rows)
    known = np.flatnonzero(count)
    own = total[known] / count[known]
    within = ((log_ms - mean) ** 2).sum() - (count[known] * own**2).sum()
    freedom = max(len(log_ms) - len(known), 1)
    spread = max(len(log_ms) - float((count[known].astype(np.float64) ** 2).sum()) / len(log_ms), 1e-9)
    noise = max(float(within) / freedom, 1e-9)
    between = max(float((count[known] * own**2).sum() - (len(known) - 1) * noise) / spread, 0.0)
    means = np.full(rows, mean)
    means[known] += own * between / (between + noise / count[known])
    means[0] = mean
    return means


def fit_dwell(hidden: F32, dwell_ms: I64, ad: I64, rows: int) -> DwellHead:
    """Fit the head to clicks: ``hidden`` `[N, M]`, their stays `[N]`, the rows ``ad`` `[N]` of their ads."""
    log_ms = np.log(np.maximum(dwell_ms, SHORTEST_MS))
    means = ad_means(log_ms, ad, rows)
    x = hidden.astype(np.float64)
    centre, scale = x.mean(axis=0), x.std(axis=0)
    alive = scale > 1e-6
    w = np.zeros(x.shape[1])
    w[alive] = ridge((x[:, alive] - centre[alive]) / scale[alive], log_ms - means[ad]) / scale[alive]
    head = DwellHead(w.astype(np.float32), (means - w @ centre).astype(np.float32), 0.0)
    smear = float(np.log(np.mean(np.exp(log_ms - head.log_ms(hidden, ad)))))
    return DwellHead(head.weight, head.mean, smear)


def ridge(x: F64, y: F64) -> F64:
    """Return the weights `[M]` of a ridge regression of ``y`` `[N]` on ``x`` `[N, M]`; zeros may be best.

    The penalty is the one of PENALTIES, or none but zero weights, with the least N RSS / (N - freedom)^2.
    """
    values, vectors = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0.0)
    along = vectors.T @ (x.T @ y)
    best, weights = float(y @ y) / len(y), np.zeros(x.shape[1])
    for penalty in PENALTIES:
        w = vectors @ (along / (values + penalty))
        freedom = float((values / (values + penalty)).sum())
        error = len(y) * float(((y - x @ w) ** 2).sum()) / max(len(y) - freedom, 1.0) ** 2
        if error < best:
            best, weights = error, w
    return weights


def dwell_metrics(hidden: F32, dwell_ms: I64, ad: I64, user: I64, rows: int) -> dict[str, float]:
    """Return the errors of the log of the stay of users who were not fitted: by the head, ad, overall mean.

    ``dwell_gain`` is what the head takes off the squared error of the ads' means, with its standard error
    over users. Empty where all users are of one fold, and nothing is left to fit on.
    """
    log_ms = np.log(np.maximum(dwell_ms, SHORTEST_MS))
    errors = np.zeros((3, len(log_ms)))
    folds = np.unique(user % FOLDS)
    if len(folds) < 2:
        return {}
    for fold in folds:
        out = user % FOLDS == fold
        head = fit_dwell(hidden[~out], dwell_ms[~out], ad[~out], rows)
        told = (
            head.log_ms(hidden[out], ad[out]), ad_means(log_ms[~out], ad[~out], rows)[ad[out]],
            np.full(int(out.sum()), log_ms[~out].mean()),
        )  # fmt: skip
        errors[:, out] = (np.stack(told) - log_ms[out]) ** 2
    cut = errors[1] - errors[0]
    head_rmse, ad_rmse, mean_rmse = (float(np.sqrt(row.mean())) for row in errors)
    return {
        "dwell_clicks": float(len(log_ms)),
        "dwell_log_rmse": head_rmse,
        "dwell_log_rmse_ad_mean": ad_rmse,
        "dwell_log_rmse_mean": mean_rmse,
        "dwell_gain": float(cut.mean()),
        "dwell_gain_se": clustered_error(cut, user),
    }


@njit(cache=True)
def expected_ms(log_ms: F32, mean: F32, known: I64, candidates: NDArray[np.int32], smear: float) -> F64:
    """Return the expected stay in ms `[B, K]` from w . hidden; 0 where there is no candidate."""
    out = np.zeros(candidates.shape)
    for b in range(candidates.shape[0]):
        for k in range(candidates.shape[1]):
            if candidates[b, k] >= 0:
                whole = np.float64(log_ms[b, k]) + mean[known[candidates[b, k]]] + smear
                out[b, k] = np.exp(min(whole, 20.0))
    return out
