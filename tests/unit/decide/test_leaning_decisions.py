"""What a user looked at, and how long ago, in the decision that a request gets."""

from dataclasses import replace

import numpy as np
import pytest
from support.shards import Bench, LogBuilder

from models.domain.catalogue import Ad
from models.domain.events import AdUpsert, Request, View
from models.domain.ids import key64, label_key
from models.scorer.config import ModelConfig
from models.scorer.features import category_rows
from models.scorer.leanings import LeaningTable, leaning
from models.scorer.serving import TransformerScorer
from models.scorer.weights import blank_tensors

ADS = tuple(
    Ad(ad_id=f"{c}-{n}", campaign_id=f"{c}{n}", category=c) for c in ("shoes", "books") for n in (0, 1)
)
CONFIG = ModelConfig(vocabulary=4, d_model=16, heads=1, window=4, rotary_length=16, categories=64)
WEIGHT = 0.6


def scorer(config=CONFIG, **tables):
    """A model that knows nothing but ``tables`` and, where it is told, the wait."""
    keys = np.sort(np.array([key64(ad.ad_id) for ad in ADS], np.uint64))
    tensors = blank_tensors(config) | {"vocabulary_keys": keys}
    if config.use_wait:
        tensors["ad.weight"][:, 0] = np.linspace(-1, 1, len(keys) + 1)
        tensors["wait_shift.weight"][12:, 0] = 1.0  # an hour or more
        tensors["shortcut_scale"][0] = 1.0
    return TransformerScorer(config, tensors, "test", **tables)


def shares():
    table = np.zeros((1, CONFIG.categories), np.float32)
    table[0, rows("shoes", "books")] = 0.25, 0.5
    return table


def rows(*categories):
    return category_rows(np.array([label_key(c) for c in categories], np.uint64), CONFIG.categories)


def bases(shard, log):
    """The base logits of the last decision by ad."""
    (decision,) = shard.process(log.records)[-1:]
    return {slot.ad_id: slot.parts.base for slot in decision.body.ads}


def test_views_move_the_base_logit_of_their_category_by_the_weight_of_the_leaning():
    log = LogBuilder()
    log.add(AdUpsert, id="ads", ads=ADS)
    for n in range(3):
        log.add(View, id=f"v{n}", user_id="u", ad_id="shoes-0")
    log.add(Request, id="r", user_id="u")
    told = bases(Bench(scorer(leanings=LeaningTable(shares(), WEIGHT))).shard(), log)
    untold = bases(Bench(scorer()).shard(), log)
    moved = {ad: told[ad] - untold[ad] for ad in told}
    assert moved["shoes-0"] == moved["shoes-1"] == pytest.approx(WEIGHT * leaning(3, 3, 0.25), abs=1e-6)
    assert moved["books-0"] == pytest.approx(WEIGHT * leaning(0, 3, 0.5), abs=1e-6)
    assert moved["shoes-0"] > 0 > moved["books-0"]


def test_a_model_that_is_told_how_long_ago_the_last_event_was_decides_by_it():
    found = {}
    for after_s in (5, 7200):
        log = LogBuilder()
        log.add(AdUpsert, id="ads", ads=ADS)
        log.add(View, id="v", user_id="u", ad_id="shoes-0")
        log.add(Request, id="r", user_id="u", after_s=after_s)
        found[after_s] = bases(Bench(scorer(replace(CONFIG, use_wait=True))).shard(), log)
    soon, late = found[5], found[7200]
    assert set(soon) == set(late) == {ad.ad_id for ad in ADS}
    assert len(set(soon.values())) == 1, "without the shift all ads are alike"
    assert len(set(late.values())) == len(ADS)
