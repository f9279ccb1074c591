"""The HTML report: one self-contained page, the same bytes for the same data, nothing unescaped."""

import re
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from models.evaluation.bootstrap import Interval
from models.evaluation.calibration import reliability
from models.evaluation.logbook import Logbook
from models.evaluation.loop import Delivered
from models.evaluation.oracle import OraclePolicy
from models.evaluation.plots import calibration_svg, latency_svg, lines_svg, map_svg, plane, score_bars_svg
from models.evaluation.report import best_row, money, percent, render_report, score_bars
from models.evaluation.report_data import PolicyRow, ReportData, ScoreBar, UserMap
from models.evaluation.world import World
from models.evaluation.world_config import Sizes, WorldConfig


def around(value, half):
    return Interval(value, value - half, value + half)


def row(name, regret):
    return PolicyRow(name, around(0.1, 0.01), around(0.2, 0), around(12345.6, 10), around(regret, 0.01))


@pytest.fixture(scope="module")
def data():
    world = World(WorldConfig(sizes=Sizes(users=20, ads=30)))
    batch = [Delivered(r, e) for e in world.step(world.now_ms + 300) for r in Logbook(1).append(e)]
    decision = OraclePolicy(world.state).decide_batch(batch)[0]
    decision = msgspec.structs.replace(decision, filtered={"targeting": 4, "cap": 9}, user_id="<b>eve</b>")
    rng = np.random.default_rng(0)
    p = rng.beta(1, 10, 500)
    return ReportData(
        title="A run",
        summary={"events/s": "1000"},
        learning={"train": (np.arange(5.0), np.arange(5.0))},
        regret={"impulse": (np.arange(5.0), np.full(5, 0.1))},
        shifts=[2.0],
        policies=[row("random", 0.7), row("impulse", 0.1), row("oracle", 0.0)],
        ranked_user="user-1",
        ranked=score_bars(decision),
        user_map=UserMap(rng.normal(size=(9, 4)), rng.normal(size=(6, 4)), list("aabbcc")),
        calibration=reliability(p, (rng.random(500) < p).astype(float)),
        latency_ms=rng.lognormal(1, 0.5, 200),
        decisions=[decision],
        notes=["Simulated & stated."],
    )


@pytest.fixture(scope="module")
def page(data):
    return render_report(data)


def test_equal_data_give_equal_bytes(data, page):
    assert render_report(data) == page


def test_the_page_needs_nothing_from_elsewhere(page):
    links = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', page))
    assert links == set()
    assert "<script" not in page
    assert "@import" not in page


def test_every_plot_is_on_the_page_with_ids_of_its_own(page):
    assert page.count("<svg") == 6
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_what_is_missing_is_left_out():
    page = render_report(ReportData(title="Nothing"))
    assert "<svg" not in page
    assert "<table" not in page


def test_names_from_the_log_are_escaped(page):
    assert "<b>eve</b>" not in page
    assert "&lt;b&gt;eve&lt;/b&gt;" in page
    assert "Simulated &amp; stated." in page


def test_decisions_are_shown_with_parts_and_what_was_kept_out_most_first(page):
    assert page.index("cap kept out 9") < page.index("targeting kept out 4")
    assert "base -" in page


def test_the_best_policy_that_is_no_oracle_is_marked(data, page):
    assert best_row(data.policies) == "impulse"
    assert best_row([]) == ""
    assert '<tr class="best"><td>impulse' in page


def test_figures_carry_their_half_width_where_there_is_one():
    assert percent(around(0.123456, 0.01)) == "12.35 % ± 1.00"
    assert percent(around(0.5, 0.0)) == "50.00 %"
    assert money(around(1234567.0, 1000)) == "1\u2009234\u2009567 ± 1\u2009000"


def test_plots_are_well_formed_and_take_the_pages_ink():
    for svg in (
        lines_svg({"a": (np.arange(3.0), np.arange(3.0))}, x="s", y="r", marks=[1.0]),
        score_bars_svg([ScoreBar("1. ad", {"base": -2.0, "ad": 0.5})]),
        calibration_svg(np.array([0.1, 0.2]), np.array([0.1, 0.3]), np.array([5.0, 5.0])),
        latency_svg(np.array([1.0, 2.0, 90.0])),
        map_svg(UserMap(np.eye(3), np.eye(3)[:2], ["x", "y"])),
    ):
        ElementTree.fromstring(svg)
        assert "currentColor" in svg
        assert 'width="100%"' in svg


def test_plots_of_nothing_are_empty_plots():
    nothing = np.zeros(0)
    for svg in (
        lines_svg({}, x="s", y="r"),
        score_bars_svg([]),
        calibration_svg(nothing, nothing, nothing),
        latency_svg(nothing),
    ):
        assert svg.startswith("<svg")


def test_the_plane_keeps_what_varies_most():
    ads = np.zeros((40, 6))
    ads[:, 3] = np.linspace(-5, 5, 40)
    users, flat = plane(np.zeros((0, 6)), ads)
    assert users.shape == (0, 2)
    assert abs(np.corrcoef(flat[:, 0], ads[:, 3])[0, 1]) == pytest.approx(1)
    assert np.abs(flat[:, 1]).max() < 1e-9
