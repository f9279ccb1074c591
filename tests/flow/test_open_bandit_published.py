"""`impulse evaluate bandit` on the Open Bandit Dataset's small sample, against what was published with it.

Published: the click rate of each policy in each campaign over the whole data (26 million rows), table 1 of
Saito et al., "Open Bandit Dataset and Pipeline", NeurIPS'21 Datasets and Benchmarks (arXiv:2008.07146); the
Beta parameters of its Bernoulli Thompson sampling, obp/policy/conf/prior_bts.yaml of st-tech/zr-obp; and
obp's documented value on this very sample, random/women: .0046 (examples_with_obd/README.md there).
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from connectors.open_bandit import read_open_bandit
from flows.cli import app
from flows.judged import read_prior
from models.domain.errors import SettingError
from models.evaluation.thompson import slot_chances

DATA = Path(os.environ.get("IMPULSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
SAMPLE = DATA / "open-bandit"
needs_sample = pytest.mark.skipif(
    not (SAMPLE / "random").exists(), reason="no open-bandit under IMPULSE_TEST_DATA"
)

PUBLISHED_CTR = {
    ("random", "men"): 0.0051, ("bts", "men"): 0.0067,
    ("random", "women"): 0.0048, ("bts", "women"): 0.0064,
}  # fmt: skip
PRIOR_MEN = (
    [47, 8, 62, 142, 3, 6, 100, 48, 23, 71, 61, 13, 16, 518, 30, 7, 4, 23, 8, 10, 11, 11, 18, 121, 11, 4, 32,
     30, 9, 22, 6, 23, 5, 54],
    [12198, 3566, 15993, 35522, 2367, 3100, 24665, 13210, 7061, 18061, 17449, 5644, 6787, 111326, 8776, 3334,
     2271, 7389, 2659, 3665, 4724, 3561, 5085, 27407, 4601, 2923, 8897, 8654, 4000, 6580, 3174, 6766, 2602,
     14506],
)  # fmt: skip
PRIOR_WOMEN = (
    [12, 7, 984, 13, 15, 15, 11, 14, 9, 200, 72, 3, 14, 49, 1278, 3, 325, 14, 27, 14, 169, 48, 47, 18, 40, 12,
     447, 46, 5, 3, 5, 7, 35, 34, 99, 30, 880, 51, 182, 6, 45, 39, 10, 24, 72, 229],
    [3612, 3173, 204484, 4517, 4765, 5331, 4131, 4728, 4028, 44280, 17918, 2309, 4339, 12922, 270771, 2480,
     68475, 5129, 7367, 5819, 38026, 13047, 11604, 5394, 10912, 4439, 94485, 10700, 2679, 2319, 2578, 3288,
     9566, 9775, 20120, 7317, 172026, 13673, 37329, 3365, 10911, 10734, 4278, 7574, 16826, 47462],
)  # fmt: skip
PRIORS = {"men": PRIOR_MEN, "women": PRIOR_WOMEN}


def csv(policy, campaign):
    return SAMPLE / policy / campaign / f"{campaign}.csv.gz"


def bandit(*words):
    done = CliRunner().invoke(app, ["evaluate", "bandit", *map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def prior_file(folder, campaign):
    alpha, beta = PRIORS[campaign]
    file = folder / f"{campaign}.toml"
    file.write_text(f"alpha = {alpha}\nbeta = {beta}\n")
    return file


@needs_sample
@pytest.mark.parametrize(("policy", "campaign"), [c for c in PUBLISHED_CTR if c != ("bts", "women")])
def test_the_interval_of_the_logging_policy_holds_its_published_click_rate(policy, campaign):
    told = bandit(csv(policy, campaign), "--policy", "logged")
    assert told["rows"] == 10_000
    for name in ("ips", "snips"):
        found = told["estimates"][name]
        assert found["value"] == told["logged"]["value"]
        assert found["low"] <= PUBLISHED_CTR[policy, campaign] <= found["high"]


@needs_sample
def test_the_sample_of_thompson_sampling_for_women_has_fewer_clicks_than_published():
    """46 clicks where the published rate expects 64: 2.3 standard deviations, and no estimator's doing."""
    told = bandit(csv("bts", "women"), "--policy", "logged")
    expected = PUBLISHED_CTR["bts", "women"] * told["rows"]
    assert told["clicks"] == 46
    assert 2 < (expected - told["clicks"]) / np.sqrt(expected) < 3
    assert told["logged"]["high"] < PUBLISHED_CTR["bts", "women"]


@needs_sample
def test_the_samples_own_click_rate_is_the_one_that_obp_documents():
    assert bandit(csv("random", "women"), "--policy", "logged")["logged"]["value"] == pytest.approx(0.0046)


@needs_sample
def test_the_uniform_policys_published_rate_is_found_from_the_log_of_thompson_sampling():
    told = bandit(csv("bts", "men"), "--policy", "uniform")
    assert told["refusal"] == ""
    for name in ("ips", "snips", "dr"):
        found = told["estimates"][name]
        assert found["low"] <= PUBLISHED_CTR["random", "men"] <= found["high"]


@needs_sample
@pytest.mark.parametrize("campaign", PRIORS)
def test_thompson_samplings_published_rate_is_found_from_the_log_of_the_random_policy(tmp_path, campaign):
    """The procedure of obp's quickstart, by the parameters that its authors published."""
    file = prior_file(tmp_path, campaign)
    told = bandit(csv("random", campaign), "--policy", "thompson", "--prior", file)
    assert told["mean_weight"] == pytest.approx(1, abs=0.05)
    for name in ("ips", "snips", "dr"):
        found = told["estimates"][name]
        assert found["low"] <= PUBLISHED_CTR["bts", campaign] <= found["high"]


@needs_sample
def test_ips_is_obps_formula_to_the_last_digit(tmp_path):
    """obp: the mean of reward x action_dist / pscore over rounds."""
    log, chances = read_open_bandit(csv("random", "men")), slot_chances(*map(np.array, PRIOR_MEN), slots=3)
    by_hand = np.mean(log.click * chances[log.position - 1, log.item] / log.propensity)
    told = bandit(csv("random", "men"), "--policy", "thompson", "--prior", prior_file(tmp_path, "men"))
    assert told["estimates"]["ips"]["value"] == pytest.approx(by_hand, rel=1e-12)


def test_each_slot_is_filled_and_an_item_is_in_one_slot_at_most():
    chances = slot_chances(*map(np.array, PRIOR_MEN), slots=3, draws=5000)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (chances.sum(axis=0) <= 1 + 1e-12).all()


def test_items_alike_have_equal_chances():
    chances = slot_chances(np.full(4, 3.0), np.full(4, 50.0), slots=2, draws=40_000)
    np.testing.assert_allclose(chances, 0.25, atol=0.01)


def test_a_clear_winner_is_always_first():
    chances = slot_chances(np.array([1.0, 900.0]), np.array([1000.0, 1000.0]), slots=1, draws=1000)
    assert chances.tolist() == [[0.0, 1.0]]


def test_beta_parameters_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(SettingError, match="positive alpha"):
        slot_chances(np.array([1.0, 0.0]), np.ones(2), slots=1)
    with pytest.raises(SettingError, match="34 numbers"):
        read_prior(None, 34)
    with pytest.raises(SettingError, match="46 numbers"):
        read_prior(prior_file(tmp_path, "men"), 46)
    (tmp_path / "no.toml").write_text("alpha = [")
    with pytest.raises(SettingError, match="beta ="):
        read_prior(tmp_path / "no.toml", 1)
