"""New ads of campaigns whose clicks convert well or badly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.shown_ads import examples

from models.domain.catalogue import Ad, Catalogue
from models.domain.errors import ArtifactError
from models.domain.ids import key64, label_key
from models.scorer import artifact
from models.scorer.campaigns import CampaignTable, no_campaigns, stored_campaigns
from models.scorer.datasets import Buckets, from_log
from models.scorer.fitting import fit_log
from models.scorer.interface import HistoryTable
from models.scorer.model import Model
from models.scorer.options import TrainOptions
from models.scorer.rates import conversion_rates
from models.scorer.sequences import NEVER
from models.scorer.serving import open_scorer

CAMPAIGNS = ("bad", "middling", "good")
CONVERSION = np.array([0.05, 0.3, 0.9])


def log():
    """Return the log of `examples`, in which clicks convert by campaign."""
    told, draw = examples(users=600), np.random.default_rng(1)
    number = (told.impression_ad_key - 100).astype(int) % 3
    conversion = told.click & (draw.random(len(told.click)) < CONVERSION[number])
    keys = np.array([label_key(name) for name in CAMPAIGNS], np.uint64)
    ads = replace(told.ads, campaign_key=keys[np.arange(12) % 3])
    return replace(told, ads=ads, conversion=conversion, conversion_time_ms=None, click_time_ms=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    sizes = {"d_model": 16, "blocks": 1, "heads": 2, "window": 4, "rotary_length": 16, "head_width": 8}
    fit_log(log(), TrainOptions(steps=2), config=sizes).save(folder)
    return folder


def probabilities(scorer, ads):
    """Return pctr and pcvr of ads for a user without events."""
    catalogue, rows = Catalogue().upsert(ads), np.zeros(1, np.int64)
    history = HistoryTable.empty(1, scorer.history_length)
    users, index = scorer.encode(history, rows, rows * 0), scorer.index(catalogue)
    candidates = np.arange(len(ads), dtype=np.int32)[None]
    return [1 / (1 + np.exp(-logits[0])) for logits in scorer.rank(history, rows, users, index, candidates)]


def test_a_new_ad_converts_as_its_campaign_does(folder):
    new = [Ad(ad_id=f"new-{name}", campaign_id=name) for name in (*CAMPAIGNS, "unheard-of")]
    bad, middling, good, unknown = probabilities(open_scorer(folder), new)[1]
    assert bad < 0.15 and 0.15 < middling < 0.5 and good > 0.5
    assert bad < unknown < good


def test_a_new_ad_is_clicked_as_its_campaigns_others_are(tmp_path):
    told, draw = examples(users=600), np.random.default_rng(4)
    number = (told.impression_ad_key - 100).astype(int) % 3
    click = draw.random(len(told.click)) < np.array([0.02, 0.1, 0.3])[number]
    keys = np.array([label_key(name) for name in CAMPAIGNS], np.uint64)
    ads = replace(told.ads, campaign_key=keys[np.arange(12) % 3])
    same = replace(told, ads=ads, click=click, conversion=click & False, click_time_ms=None)
    sizes = {"d_model": 16, "blocks": 1, "heads": 2, "window": 4, "rotary_length": 16, "head_width": 8}
    fit_log(replace(same, conversion_time_ms=None), TrainOptions(steps=2), config=sizes).save(tmp_path)
    new = [Ad(ad_id=f"new-{name}", campaign_id=name) for name in CAMPAIGNS]
    bad, middling, good = probabilities(open_scorer(tmp_path), new)[0]
    assert bad < 0.07 < middling < 0.17 < good


def test_a_campaign_whose_conversions_come_late_counts_as_good_as_one_whose_come_at_once():
    told, draw = examples(users=3000), np.random.default_rng(2)
    number = (told.impression_ad_key - 100).astype(int) % 3
    mean_ms = np.array([900_000, 30_000, 30_000])[number]
    comes_ms = told.click_time_ms + draw.exponential(mean_ms)
    conversion = told.click & (draw.random(len(told.click)) < 0.4) & (comes_ms < told.time_ms.max())
    came_ms = np.where(conversion, comes_ms, NEVER).astype(np.int64)
    delayed = replace(told, conversion=conversion, conversion_time_ms=came_ms)
    split = from_log(delayed, np.zeros((12, 0), np.float32), Buckets())

    def difference(data):
        slow, quick = conversion_rates(data).campaigns[1:3]
        return quick - slow

    as_if_all_had_come = replace(split.train, labels=all_come(split.train.labels))
    assert difference(as_if_all_had_come) > 0.5
    assert abs(difference(split.train)) < 0.15


def all_come(labels):
    """Return the labels of whoever takes what has come by the log's end for all that comes."""
    return replace(labels, maturity=np.ones_like(labels.maturity))


def test_an_ad_with_a_row_of_its_own_keeps_its_own_rate():
    one = np.ones(1, np.float32)
    known = CampaignTable(np.array([label_key("c")], np.uint64), one, 2 * one)
    ads = [Ad(ad_id="old", campaign_id="c"), Ad(ad_id="new", campaign_id="c"), Ad(ad_id="x", campaign_id="d")]
    assert known.of_new(ads, np.array([3, 0, 0])).conversion.tolist() == [0.0, 1.0, 0.0]
    assert known.of_new(ads, np.array([3, 0, 0])).click.tolist() == [0.0, 2.0, 0.0]
    assert not np.any(no_campaigns().of_new(ads, np.array([3, 0, 0])))


def test_a_model_comes_back_with_its_campaigns(folder):
    table = Model.load(folder).campaigns
    assert set(table.keys.tolist()) == {label_key(name) for name in CAMPAIGNS}
    assert stored_campaigns({}).tensors() == {}


def test_a_model_of_before_that_knew_one_slope_is_read(folder, tmp_path):
    stored = artifact.load(folder)
    tensors = {name: value for name, value in stored.tensors.items() if name != "adjustment_slope"}
    artifact.save(tmp_path, tensors, stored.manifest)
    network = Model.load(tmp_path).network
    assert network.adjustment_slope == network.conversion_slope
    assert open_scorer(tmp_path).adjustment_slope == float(network.conversion_slope)


def test_a_model_of_before_that_knew_no_clicks_of_campaigns_adds_none():
    one = np.ones(1, np.float32)
    tensors = CampaignTable(np.array([label_key("c")], np.uint64), one, one).tensors()
    before = stored_campaigns({name: value for name, value in tensors.items() if name != "campaign_click"})
    assert before.conversion.tolist() == [1.0] and before.click.tolist() == [0.0]


@pytest.mark.parametrize("wrong", ["conversion", "click"])
@pytest.mark.parametrize(
    ("keys", "odds"), [([1], [0, 0]), ([1], [np.nan]), ([key64("a")], [np.inf]), ([1, 2], [0])]
)
def test_a_table_that_is_none_is_refused(keys, odds, wrong):
    right = np.zeros(len(keys), np.float32)
    columns = {"conversion": right, "click": right, wrong: np.array(odds, np.float32)}
    with pytest.raises(ArtifactError, match="campaign table"):
        CampaignTable(np.array(keys, np.uint64), **columns)


def test_keys_that_do_not_ascend_are_refused():
    nothing = np.zeros(2, np.float32)
    with pytest.raises(ArtifactError, match="ascending keys"):
        CampaignTable(np.array([2, 1], np.uint64), nothing, nothing)
