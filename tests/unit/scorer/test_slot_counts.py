"""What a log tells of slots: counted among ads that are alike, kept with the model, refused where damaged."""

import json

import numpy as np
import pytest

from models.domain.errors import ArtifactError
from models.learning.position import fit_examination
from models.scorer.artifact import read_manifest
from models.scorer.config import ModelConfig
from models.scorer.model import Model
from models.scorer.slots import SlotCounts, count_slots, stored_slots
from models.scorer.transformer import Transformer

EXAMINATION = np.array([1.0, 0.6, 0.3])


def rows(count=3000, seed=0):
    """Ads of different rates, the better ones in front; ``[I]`` slot, rate, impressions and clicks."""
    rng = np.random.default_rng(seed)
    slot, rate = rng.integers(0, 3, count), np.exp(rng.normal(-2.5, 0.5, count))
    shown = 20.0 + 60.0 * (rate > 0.08) * (slot == 0)
    return slot, rate, shown, rng.poisson(shown * rate * EXAMINATION[slot]).astype(float)


def test_counts_among_alike_ads_tell_the_examination_where_bare_counts_do_not():
    slot, rate, shown, clicks = rows()
    by_slot = np.bincount(slot, clicks) / np.bincount(slot, shown)
    found = fit_examination(*count_slots(slot, rate, shown, clicks))
    assert found == pytest.approx(EXAMINATION, rel=0.06)
    assert by_slot[1] / by_slot[0] < 0.55


def test_every_impression_and_click_is_counted_once():
    slot, rate, shown, clicks = rows()
    counts = count_slots(slot, rate, shown, clicks)
    assert counts.shown.sum(axis=1) == pytest.approx(np.bincount(slot, shown))
    assert counts.clicks.sum(axis=1) == pytest.approx(np.bincount(slot, clicks))


def test_a_log_without_clicks_or_without_impressions_is_counted_too():
    slot, rate, shown, clicks = rows(count=10)
    assert count_slots(slot, rate, shown, 0 * clicks).shown.sum() == shown.sum()
    nothing = count_slots(slot[:0], rate[:0], shown[:0], clicks[:0])
    assert nothing.shown.size == 0


def test_a_model_keeps_them_in_its_manifest(tmp_path):
    counts = count_slots(*rows())
    network = Transformer(ModelConfig(vocabulary=2, d_model=16, blocks=1, heads=1, head_width=16))
    Model(network, np.array([1, 2], np.uint64), slots=counts).save(tmp_path)
    for found in (stored_slots(read_manifest(tmp_path)), Model.load(tmp_path).slots):
        assert (found.shown == counts.shown).all() and (found.clicks == counts.clicks).all()


def test_a_model_without_them_has_none():
    assert stored_slots({}) is None and stored_slots({"slots": None}) is None


@pytest.mark.parametrize(
    "told",
    [
        [1, 2],
        {"shown": [[1.0]]},
        {"shown": [[1.0]], "clicks": [[2.0]]},
        {"shown": [[1.0]], "clicks": [[-1.0]]},
        {"shown": [[1e999]], "clicks": [[1.0]]},
        {"shown": [[1.0, 2.0]], "clicks": [[1.0]]},
        {"shown": [[1.0], [1.0, 2.0]], "clicks": [[1.0], [1.0, 1.0]]},
        {"shown": [1.0], "clicks": [1.0]},
        {"shown": [["many"]], "clicks": [[1.0]]},
        {"shown": [[1.0]] * 1001, "clicks": [[0.0]] * 1001},
    ],
    ids=json.dumps,
)
def test_what_counts_nothing_is_refused(told):
    with pytest.raises(ArtifactError, match=r"slots of a model's manifest.*Fix: train the model again"):
        stored_slots({"slots": told})


def test_counts_are_plain_numbers_in_json():
    counts = SlotCounts(np.ones((2, 2)), np.zeros((2, 2)))
    assert json.loads(json.dumps(counts.manifest())) == {
        "shown": [[1, 1], [1, 1]],
        "clicks": [[0, 0], [0, 0]],
    }
