"""The simulation's page: complete, made from the JSON alone, and honest where there is no figure."""

import json
import re

import pytest

from models.evaluation.charts import COLOURS, colours
from models.evaluation.simulate import BASELINES, run_policies
from models.evaluation.simulation_page import brief, simulation_page
from models.evaluation.simulation_report import simulation_report, warm_up_s
from models.evaluation.world_config import Drift, Inventory, Sizes, Traffic, WorldConfig

WORLD = WorldConfig(
    sizes=Sizes(users=60, ads=60),
    traffic=Traffic(requests_per_s=10, views_per_s=2),
    inventory=Inventory(burst_every_s=15),
    drift=Drift(shift_every_s=0, shift_at_s=(40,)),
)


@pytest.fixture(scope="module")
def report():
    policies = {name: BASELINES[name] for name in ("random", "popularity", "frozen_oracle")}
    run = run_policies(WORLD, policies, 110, seeds=(0, 1), tick_ms=1000)
    return json.loads(json.dumps(simulation_report(run), allow_nan=False))


def test_every_policy_and_every_chart_is_on_the_page(report):
    page = simulation_page(report)
    for name in report["policies"]:
        assert f"<td>{name}</td>" in page
    for title in (
        "Regret over time",
        "After a shift",
        "Recovery after a shift",
        "Life of new ads",
        "More figures",
    ):
        assert f"<h2>{title}</h2>" in page
    assert page.count("<svg") == 3  # none of these policies predicts: no calibration
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.S)


def test_the_page_is_the_same_for_the_same_figures(report):
    assert simulation_page(report) == simulation_page(json.loads(json.dumps(report)))


def test_ids_of_the_charts_do_not_clash(report):
    ids = re.findall(r'\bid="([^"]+)"', simulation_page(report))
    assert len(ids) == len(set(ids))


def test_the_brief_report_leaves_out_curves_only(report):
    told = brief(report)["policies"]["random"]
    assert "regret_curve" not in told and "recovery" not in told
    assert told["regret"] == report["policies"]["random"]["regret"]
    assert set(told["recovery_s"]) == {"value", "low", "high"}


def test_a_frozen_policy_is_hurt_by_a_shift_and_says_that_it_never_recovers(report):
    told = report["policies"]["frozen_oracle"]
    assert told["recovery"]["cuts"] == 2
    assert told["recovery"]["jump"] > 0.02
    assert len(told["recovery"]["excess"]) == 61


def test_a_run_of_one_second_has_a_page():
    told = simulation_report(run_policies(WORLD, {"random": BASELINES["random"]}, 1, seeds=(0,)))
    assert "Policies in a closed loop" in simulation_page(told)


class Silent:
    """A policy that never shows anything."""

    def recall(self, decisions):
        """Remember nothing."""

    def decide_batch(self, batch):
        """Decide nothing."""
        return []


def test_a_policy_that_shows_nothing_has_no_rates_and_a_page():
    run = run_policies(WORLD, {"silent": lambda world: Silent()}, 5, seeds=(0,))
    told = json.loads(json.dumps(simulation_report(run), allow_nan=False))
    silent = told["policies"]["silent"]
    for rate in ("ctr", "cvr", "observed_ctr", "value_per_spend", "new_ad_ctr", "new_ad_impression_share"):
        assert silent[rate] == {"value": None, "low": None, "high": None}, rate
    assert silent["revenue_micros"]["value"] == 0
    assert silent["regret"] == {"value": 1.0, "low": None, "high": None}
    assert "<td>silent</td><td>-</td><td>-</td><td>0</td><td>100.0 %</td>" in simulation_page(told)


def test_unknown_ends_are_left_out_of_the_page_and_known_ones_shown():
    told = simulation_report(run_policies(WORLD, {"random": BASELINES["random"]}, 5, seeds=(0,)))
    page = re.sub(r"<svg.*?</svg>", "", simulation_page(told), flags=re.S)
    ctr = told["policies"]["random"]["ctr"]
    assert f"± {50 * (ctr['high'] - ctr['low']):.2f}" in page
    assert not re.search(r"\b(nan|inf|None)\b", page)


def test_calibration_counts_after_the_warm_up_or_the_middle_of_a_short_run():
    assert (warm_up_s(600), warm_up_s(60), warm_up_s(1)) == (60, 30, 0)


def test_policies_keep_their_colours_and_others_get_free_ones():
    found = colours(["impulse", "mine", "vw", "yours"])
    assert found["impulse"] == COLOURS["impulse"]
    assert len(set(found.values())) == 4


def test_a_world_with_budgets_says_that_its_oracle_is_no_bound(report):
    limited = WorldConfig(sizes=WORLD.sizes, traffic=WORLD.traffic, inventory=Inventory(budget_share=0.5))
    told = simulation_report(run_policies(limited, {}, 2, seeds=(0,)))
    assert "no upper bound" in told["notes"][0]
    assert told["notes"][0] in simulation_page(told).replace("&#39;", "'")
    assert report["notes"] == []
