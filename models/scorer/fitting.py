"""From interactions or a log to a finished model: vocabulary, content, training, item graph, metrics."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from models.domain.errors import SettingError
from models.domain.ids import NO_KEY, key64

from . import second_stage
from .calibration import calibrate
from .campaigns import CampaignTable, no_campaigns
from .config import ModelConfig
from .content import ContentEncoder
from .cooccurrence import Steps, build, steps_of
from .datasets import Buckets, Split, Stays, from_interactions, from_log
from .dwell import LEAST_STAYS, DwellHead, dwell_metrics, fit_dwell
from .encoders import ads_content, default_encoder
from .model import Model
from .options import TrainOptions
from .rates import ClickRates, click_rates, conversion_rates
from .refit import Refitted, refit
from .sequences import AdTable, Dataset, Interactions, LogExamples, item_keys
from .training import VALIDATION_USERS, Clock, Listener, train
from .transformer import Transformer, parameter_count
from .validation import blend_and_measure, impression_inner, label_metrics

SLOTS = 20
"""Slots told apart in training; later ones count as the last (a decision has at most 20)."""


def items_table(interactions: Interactions, items: dict[str, tuple[str, str]] | None = None) -> AdTable:
    """Return the items of a file as ads; ``items`` maps an id to (category, text)."""
    described = [(items or {}).get(item, ("", "")) for item in interactions.item_ids]
    category = [key64(name) if name else NO_KEY for name, _ in described]
    texts = tuple(text for _, text in described) if items else ()
    return AdTable(item_keys(interactions.item_ids), np.array(category, np.uint64), texts)


def default_dropout(split: Split) -> float:
    """Return the dropout for data of this density: 0.6 - 0.2 log10(events per ad), within 0.1 and 0.5.

    Sparse data is learned by heart sooner: about 0.1 at 300 events per ad, 0.4 at 10. In a log with
    impressions the events that count are their clicks.
    """
    labels = split.train.labels
    events = int(labels.click.sum()) if len(labels) else len(split.train.ad)
    density = max(events, 1) / max(len(split.vocabulary), 1)
    return round(min(max(0.6 - 0.2 * math.log10(density), 0.1), 0.5), 3)


def _buckets(config: dict[str, Any] | None) -> Buckets:
    """Return the rows of the feature tables, of which ``config`` overrides fields of ModelConfig."""
    return Buckets.of(ModelConfig(**{"vocabulary": 1, **(config or {})}))


def fit_interactions(
    interactions: Interactions,
    options: TrainOptions,
    *,
    config: dict[str, Any] | None = None,
    ads: AdTable | None = None,
    encoder: ContentEncoder | None = None,
    listener: Listener | None = None,
    checkpoints: Path | None = None,
    clock: Clock = time.process_time,
    spent_s: float = 0.0,
) -> Model:
    """Train on interactions without each user's last two items; see `training.train` for the errors.

    ``config`` overrides fields of ModelConfig; ``ads`` (see `items_table`) brings categories and texts.
    SettingError where the config needs times that the interactions do not have.
    """
    started = clock() - spent_s
    described = ads is not None
    ads = items_table(interactions) if ads is None else ads
    encoder = default_encoder(ads) if encoder is None else encoder
    content = ads_content(encoder, ads)
    split = from_interactions(interactions, ads, content, _buckets(config))
    switches = {
        "use_category": described and bool((ads.category_key != 0).any()),
        "use_kind": False,
        "use_dwell": False,
        "use_gap": interactions.time_ms is not None,
        "content_dim": content.shape[1],
        "dropout": default_dropout(split),
    }
    network = ModelConfig(vocabulary=len(split.vocabulary), **{**switches, **(config or {})})
    if network.use_wait and interactions.time_ms is None:
        raise SettingError.expected(
            "model.use_wait", got="a file without times", expected="interactions with times",
            fix="leave use_wait out, or give a RecBole file with timestamps",
        )  # fmt: skip
    return _fit(split, network, encoder, options, listener, checkpoints, clock, started)


def fit_log(
    examples: LogExamples,
    options: TrainOptions,
    *,
    config: dict[str, Any] | None = None,
    encoder: ContentEncoder | None = None,
    listener: Listener | None = None,
    checkpoints: Path | None = None,
    clock: Clock = time.process_time,
    spent_s: float = 0.0,
) -> Model:
    """Train on a log's first nine tenths in time and measure on the last; errors as `training.train`."""
    started = clock() - spent_s
    encoder = default_encoder(examples.ads) if encoder is None else encoder
    content = ads_content(encoder, examples.ads)
    split = from_log(examples, content, _buckets(config))
    switches = {
        "content_dim": content.shape[1],
        "slots": SLOTS if len(split.train.labels) else 0,
        "segments": len(split.segments),
        "dropout": default_dropout(split),
    }
    network = ModelConfig(vocabulary=len(split.vocabulary), **{**switches, **(config or {})})
    return _fit(split, network, encoder, options, listener, checkpoints, clock, started)


def _steps(dataset: Dataset) -> Steps:
    """Return the steps to foresee: to clicked impressions from their decisions, and to other targets."""
    every = steps_of(dataset.offsets, dataset.ad)
    wanted = dataset.target[every.end + 1]
    clicked = dataset.labels.take(np.flatnonzero(dataset.labels.click))
    begin = dataset.offsets[clicked.user]
    return Steps(
        np.concatenate((every.begin[wanted], begin)),
        np.concatenate((every.end[wanted], begin + clicked.position - 1)),
        np.concatenate((every.after[wanted], clicked.ad)),
    )


def _fit(
    split: Split,
    config: ModelConfig,
    encoder: ContentEncoder | None,
    options: TrainOptions,
    listener: Listener | None,
    checkpoints: Path | None,
    clock: Clock,
    started: float,
) -> Model:
    graph = build(split.train.ad, _steps(split.train), len(split.vocabulary) + 1)
    trained = train(
        split,
        config,
        options,
        listener=listener,
        checkpoints=checkpoints,
        clock=clock,
        spent_s=clock() - started,
    )
    started = clock() - trained.cpu_s
    scales, graph, leanings = calibrate(trained.model, graph, split)
    sample = split.holdout.sample(VALIDATION_USERS)
    graph, metrics = blend_and_measure(trained.model, graph, sample)
    if not len(split.train.labels):
        graph, served = second_stage.order(trained.model, graph, sample)
        metrics |= served
    measured = label_metrics(trained.model, split.holdout, graph=graph, leanings=leanings)
    metrics |= {f"validation_{k}": v for k, v in measured.items()}
    dwell, errors = fit_stays(trained.model, split.stays)
    metrics |= {f"validation_{k}": v for k, v in errors.items()}
    rates = click_rates(split.train, config.slots, config.segments) if config.slots else None
    refitted = refit(trained.model, graph, leanings, split) if config.slots else None
    if refitted is not None:
        leanings = refitted.leanings
        scales["refit"] = [leanings.weight, leanings.shrink, refitted.level]
    training = {
        "data_hash": split.data_hash,
        "seed": options.seed,
        "steps": trained.steps,
        "epochs": trained.epochs,
        "parameters": parameter_count(trained.model),
        "options": options.to_dict() | options.pace(bool(config.slots)).to_dict(),
        "curve": trained.curve,
        "calibration": scales,
        "cpu_minutes": (clock() - started) / 60,
    }
    return Model(
        trained.model, split.vocabulary, graph, encoder, training, metrics, split.segments,
        _campaign_table(split, rates, refitted), dwell, leanings, None if rates is None else rates.by_slot,
    )  # fmt: skip


def _campaign_table(split: Split, rates: ClickRates | None, refitted: Refitted | None) -> CampaignTable:
    """Return what is known of the campaigns that ads of the vocabulary belong to."""
    if rates is None or not split.train.campaign_of.any():
        return no_campaigns()
    conversion = conversion_rates(split.train).campaigns
    if refitted is None:
        click = rates.campaigns
    else:
        click = refitted.campaigns
        conversion = conversion - refitted.heard.conversion * click
    odds = (conversion[1:].astype(np.float32), click[1:].astype(np.float32))
    return CampaignTable(split.campaigns[: len(odds[0])], *odds)


def fit_stays(model: Transformer, stays: Stays | None) -> tuple[DwellHead | None, dict[str, float]]:
    """Return a head for the stays after clicks and its errors; none where they are too few to learn from."""
    if stays is None or len(stays.dwell_ms) < LEAST_STAYS:
        return None, {}
    labels = stays.clicked.labels
    inner, rows = impression_inner(model, stays.clicked, labels), len(stays.clicked.category_of)
    errors = dwell_metrics(inner, stays.dwell_ms, labels.ad, labels.user, rows)
    return fit_dwell(inner, stays.dwell_ms, labels.ad, rows), errors
