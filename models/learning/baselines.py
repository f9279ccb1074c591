"""River's own models on the same streams, to stand beside ours: ratings, and clicks without a Transformer."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim, preprocessing, reco

from .bayes import DiagonalBayes

F64 = NDArray[np.float64]
Features = dict[str, float]

RATERS = ("river_baseline", "river_biased_mf")


def rater(name: str, low: float, high: float) -> Any:
    """Return one of RATERS: biases alone, or with ten latent factors, as River's documentation sets them."""
    bias, zeros = optim.SGD(0.025), optim.initializers.Zeros()
    model: Any
    if name == "river_baseline":
        model = reco.Baseline(optimizer=bias, initializer=zeros, l2=0.0)
    else:
        model = reco.BiasedMF(
            n_factors=10,
            bias_optimizer=bias,
            latent_optimizer=optim.SGD(0.05),
            weight_initializer=zeros,
            latent_initializer=optim.initializers.Normal(mu=0.0, sigma=0.1, seed=73),
            l2_bias=0.0,
            l2_latent=0.0,
        )
    return preprocessing.PredClipper(regressor=model, y_min=low, y_max=high)


def rate_in_turn(name: str, users: Sequence[int], items: Sequence[int], ratings: Sequence[float]) -> F64:
    """Return what a rater foresaw of each rating `[N]`, having learned from those before it alone."""
    model = rater(name, min(ratings), max(ratings))
    foreseen = np.empty(len(ratings))
    for n, (user, item, rating) in enumerate(zip(users, items, ratings, strict=True)):
        foreseen[n] = model.predict_one({}, user=user, item=item)
        model.learn_one({}, rating, user=user, item=item)
    return foreseen


def river_clicks_in_turn(
    features: Sequence[Features], labels: Sequence[bool], learning_rate: float = 0.03
) -> F64:
    """Return the click probability `[N]` by River's logistic regression, each before its label."""
    model: Any = linear_model.LogisticRegression(
        optimizer=optim.SGD(learning_rate), intercept_lr=learning_rate
    )
    foreseen = np.empty(len(labels))
    for n, (x, label) in enumerate(zip(features, labels, strict=True)):
        foreseen[n] = model.predict_proba_one(x)[True]
        model.learn_one(x, label)
    return foreseen


def adjusted_in_turn(
    features: Sequence[Features],
    labels: Sequence[bool],
    offsets: F64,
    times_ms: Sequence[int],
    *,
    time_constant_s: float,
    prior_variances: dict[str, float] | None = None,
) -> F64:
    """Return the click probability `[N]` of online adjustments on top of fixed logits, each before its label.

    Parameters
    ----------
    features
        Active features of each example; names up to the first ``:`` pick the prior variance.
    offsets
        `[N]` logits of the model that does not learn.
    time_constant_s
        How fast weights forget, in the time of the stream.
    prior_variances
        By feature group; the others have the default.

    """
    groups = prior_variances or {}
    names = {key for x in features for key in x}
    priors: dict[Hashable, float] = {
        key: groups[group] for key in names if (group := key.split(":")[0]) in groups
    }
    model = DiagonalBayes(time_constant_s=time_constant_s, prior_variances=priors)
    foreseen = np.empty(len(labels))
    rows = zip(features, labels, offsets.tolist(), times_ms, strict=True)
    for n, (x, label, offset, time_ms) in enumerate(rows):
        foreseen[n] = model.predict_proba_one(x, offset=offset, time_ms=time_ms)[True]
        model.learn_one(x, label, offset=offset, time_ms=time_ms)
    return foreseen
