"""Test, then learn, in the order of time: the plain functions behind `impulse evaluate stream`.

A rating is taken as an impression that was clicked where the rating is high enough. That is no ad log: the
user chose the item, so figures compare predictors on one stream and promise nothing of a campaign.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.interactions import read_items
from connectors.ratings import Ratings, read_ratings
from models.decide.examples import ExampleCollector
from models.decide.profiles import Profiles
from models.domain.catalogue import Ad, Catalogue
from models.domain.errors import SettingError
from models.domain.events import AdUpsert, Click, Impression, Request, UserEvent
from models.domain.ids import decision_id
from models.domain.log import LogRecord, Received
from models.evaluation.bootstrap import ratio_interval
from models.evaluation.prequential import Labelled, scores
from models.learning.baselines import RATERS, adjusted_in_turn, rate_in_turn, river_clicks_in_turn
from models.learning.priors import DEFAULT_PRIORS
from models.scorer.metrics import EPSILON, grouped_auc
from models.scorer.options import TrainOptions

from .jobs import train_log
from .next_items import next_item_figures

F64 = NDArray[np.float64]
_TOPIC = "ads.events.v1"
_HISTORY = 160


@dataclass(frozen=True)
class StreamOptions:
    """See the options of `impulse evaluate stream`."""

    click_from: float = 4.0
    train_share: float = 0.5
    minutes: float = 2.0
    time_constant_s: float = 30 * 86_400.0


def stream_figures(
    file: Path, items: Path | None, options: StreamOptions, *, tell: Callable[[str], object] = print
) -> dict[str, Any]:
    """Return the figures of ratings, next items and clicks on one stream."""
    data = read_ratings(file)
    about = {} if items is None else read_items(items)
    ads = _ads(data, about)
    training = TrainOptions(minutes=options.minutes) if options.minutes > 0 else None
    if training is not None:
        _check_clicks(data, options)
    tell("ratings: River's models")
    figures: dict[str, Any] = {
        "ratings": len(data),
        "users": len(data.users),
        "items": len(data.items),
        "rating": {name: _rated(name, data) for name in RATERS},
    }
    tell("next items: popularity and Markov, online, and the frozen Transformer")
    cut = int(len(data) * options.train_share)
    figures["next_item"] = next_item_figures(data, about, cut, training)
    tell("clicks: with and without adjustments")
    figures["click"] = click_stream(data, ads, options)
    return figures


def _check_clicks(data: Ratings, options: StreamOptions) -> None:
    """Refuse a stream of whose earlier part no rating counts as a click: no model could learn from it."""
    earlier = data.rating[: int(len(data) * options.train_share)]
    if len(earlier) and earlier.max() < options.click_from:
        raise SettingError.expected(
            "--click-from", got=options.click_from,
            expected=f"{earlier.max():g} at most, the highest rating that the frozen models would learn from",
            fix="lower it, or leave these models out with --minutes 0",
        )  # fmt: skip


def _rated(name: str, data: Ratings) -> dict[str, float]:
    began = time.process_time()
    foreseen = rate_in_turn(name, data.user.tolist(), data.item.tolist(), data.rating.tolist())
    errors = foreseen - data.rating
    mae, rmse = float(np.abs(errors).mean()), float(np.sqrt((errors**2).mean()))
    return {"mae": mae, "rmse": rmse, "cpu_s": time.process_time() - began}


def _ads(data: Ratings, about: Mapping[str, tuple[str, str]]) -> tuple[Ad, ...]:
    return tuple(
        Ad(
            ad_id=name,
            campaign_id=name,
            category=about.get(name, ("", ""))[0],
            title=about.get(name, ("", ""))[1],
        )
        for name in data.items
    )


def click_stream(data: Ratings, ads: tuple[Ad, ...], options: StreamOptions) -> dict[str, Any]:
    """Return how well clicks on the later part of a stream are foreseen, with and without learning.

    ``frozen`` is the Transformer trained on the earlier part, ``adjusted`` the same logits with online
    adjustments (bias, ad, category, user x category: those of the decision path), ``online`` the same
    adjustments and a weight per user on a constant logit, ``river_lr`` River's logistic regression on the
    features of ``online``. The online ones learn on the earlier part too, where they need no model. ``gauc``
    is the AUC within users: it tells a user's items apart, not users who click from those who do not.
    """
    clicked = data.rating >= options.click_from
    cut = int(len(data) * options.train_share)
    later = np.arange(cut, len(data))
    features = [_features(data, ads, n) for n in range(len(data))]
    wide = [{**x, f"user:{u}": 1.0} for x, u in zip(features, data.user.tolist(), strict=True)]
    labels, times = clicked.tolist(), data.time_ms.tolist()
    constant_s, priors = options.time_constant_s, _priors()
    rate = (float(clicked[:cut].sum()) + 1) / (cut + 2)  # by Laplace: all may be clicks, or none
    level = np.full(len(data), np.log(rate / (1 - rate)))
    online = adjusted_in_turn(wide, labels, level, times, time_constant_s=constant_s, prior_variances=priors)
    found = {"river_lr": river_clicks_in_turn(wide, labels)[cut:], "online": online[cut:]}
    about: dict[str, Any] = {"trained_on": cut, "judged": len(later), "ctr": float(clicked[cut:].mean())}
    if options.minutes > 0:
        base, trained = frozen_logits(data, ads, clicked, cut, options.minutes)
        found["frozen"] = 1 / (1 + np.exp(-base))
        found["adjusted"] = adjusted_in_turn(
            features[cut:],
            labels[cut:],
            base,
            times[cut:],
            time_constant_s=constant_s,
            prior_variances=priors,
        )
        about |= {"training": trained, "gain": _gain(found, clicked[cut:], data.user[cut:])}
    return about | {name: _judged(p, data, clicked, later) for name, p in found.items()}


def _features(data: Ratings, ads: tuple[Ad, ...], n: int) -> dict[str, float]:
    user, item = int(data.user[n]), int(data.item[n])
    category = ads[item].category
    names = ("bias", f"ad:{item}", f"category:{category}", f"user_category:{user}|{category}")
    return dict.fromkeys(names, 1.0)


def _priors() -> dict[str, float]:
    p = DEFAULT_PRIORS
    return {
        "bias": p.bias, "ad": p.ad, "category": p.segment_category, "user_category": p.user_category,
        "user": p.user_category,
    }  # fmt: skip


def _judged(
    foreseen: F64, data: Ratings, clicked: NDArray[np.bool_], rows: NDArray[np.int64]
) -> dict[str, Any]:
    seconds, label = data.time_ms[rows] / 1000, clicked[rows]
    told = asdict(scores(Labelled(seconds, seconds, foreseen, label.astype(np.float64))))
    return told | {"gauc": grouped_auc(label, foreseen, data.user[rows])}


def _gain(found: dict[str, F64], clicked: NDArray[np.bool_], user: NDArray[np.int64]) -> dict[str, float]:
    """Return the log loss that the adjustments took off, with an interval bootstrapped by user."""
    cut = _losses(found["frozen"], clicked) - _losses(found["adjusted"], clicked)
    interval = ratio_interval(cut, np.ones(len(cut)), user)
    return {"log_loss": interval.value, "low": interval.low, "high": interval.high}


def _losses(p: F64, clicked: NDArray[np.bool_]) -> F64:
    losses: F64 = -np.log(np.clip(np.where(clicked, p, 1 - p), EPSILON, 1.0))
    return losses


def frozen_logits(
    data: Ratings, ads: tuple[Ad, ...], clicked: NDArray[np.bool_], cut: int, minutes: float
) -> tuple[F64, dict[str, Any]]:
    """Return the click logit of each rating from ``cut`` on by a Transformer trained on those before it.

    The model does not learn after ``cut``; the users' histories go on, by the code that serves.
    """
    from models.scorer.serving import open_scorer

    collector = ExampleCollector()
    collector.take([_received(0, AdUpsert(id="ads", event_time=int(data.time_ms[0]), ads=ads))])
    for n in range(cut):
        collector.take(
            [_received(3 * n + i, event) for i, event in enumerate(_events(data, ads, clicked, n), 1)]
        )
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        trained = train_log(collector.examples(), model, TrainOptions(minutes=minutes))
        scorer = open_scorer(model)
    catalogue = Catalogue().upsert(ads)
    index, profiles = scorer.index(catalogue), Profiles(max(_HISTORY, scorer.history_length))
    for row in range(len(data.users)):
        profiles.open(row)
    out = np.empty(len(data) - cut)
    for n in range(len(data)):
        row = int(data.user[n])
        profiles.apply()
        if n >= cut:
            rows, candidate = np.array([row], np.int64), np.array([[int(data.item[n])]], np.int32)
            users = scorer.encode(profiles.history, rows, data.time_ms[n : n + 1])
            out[n - cut] = scorer.rank(profiles.history, rows, users, index, candidate)[0][0, 0]
        for event in _events(data, ads, clicked, n):
            ad = None if isinstance(event, Request) else ads[int(data.item[n])]
            profiles.collect(row, event, ad)
    return out, {"cpu_minutes": trained.get("cpu_minutes"), "model_hash": trained["model_hash"]}


def _received(offset: int, event: UserEvent | AdUpsert) -> Received:
    return Received(LogRecord(_TOPIC, 0, offset, event.event_time, None, None), event)


def _events(data: Ratings, ads: tuple[Ad, ...], clicked: NDArray[np.bool_], n: int) -> Iterator[UserEvent]:
    """Yield what a rating stands for: a request, the impression that answers it, and maybe a click."""
    user, time_ms = f"u{data.users[int(data.user[n])]}", int(data.time_ms[n])
    ad, asked = ads[int(data.item[n])].ad_id, decision_id(_TOPIC, 0, 3 * n + 1)
    yield Request(id=f"r{n}", event_time=time_ms, user_id=user)
    yield Impression(id=f"i{n}", event_time=time_ms, user_id=user, ad_id=ad, decision_id=asked, slot=0)
    if clicked[n]:
        yield Click(id=f"c{n}", event_time=time_ms, user_id=user, ad_id=ad, decision_id=asked)
