"""`impulse simulate`: its JSON keeps its names, and what it cannot use is refused in a sentence."""

import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.settings import load_settings
from flows.simulated import installed_policies, one_shard_for_all
from models.domain.errors import SettingError
from models.evaluation.world_config import WorldConfig, resized

WORLD = """
[sizes]
users = 60
ads = 60
[traffic]
requests_per_s = 15
views_per_s = 5
[drift]
shift_every_s = 0
"""
FIGURES = ("ctr", "cvr", "regret", "revenue_micros")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The JSON of a tiny world under every installed policy."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "world.toml").write_text(WORLD)
    words = ["simulate", "--seconds", "6", "--history", "10", "--train-minutes", "0.01", "--json"]
    files = ["--world", folder / "world.toml", "--folder", folder, "--report", folder / "report.html"]
    done = CliRunner().invoke(app, [*words, *map(str, files)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), (folder / "report.html").read_text()


def test_every_policy_has_its_figures_with_intervals(simulated):
    told, _ = simulated
    names = {"random", "popularity", "static", "river_lr", "river_adpredictor", "impulse", "oracle"}
    assert names <= set(told["policies"]) == set(installed_policies())
    for name, found in told["policies"].items():
        for figure in FIGURES:
            assert set(found[figure]) == {"value", "low", "high"}
            assert found[figure]["low"] <= found[figure]["value"] <= found[figure]["high"], (name, figure)


def test_at_one_seed_intervals_have_a_width_and_rates_stay_between_0_and_1(simulated):
    told, _ = simulated
    for name, found in told["policies"].items():
        for rate in ("ctr", "cvr"):
            assert 0 < found[rate]["low"] < found[rate]["high"] < 1, (name, rate)
    assert told["policies"]["oracle"]["regret"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert told["policies"]["random"]["regret"]["low"] > 0


def test_the_world_is_told_beside_its_policies(simulated):
    told, page = simulated
    assert (told["users"], told["ads"], told["seconds"], told["seeds"]) == (60, 60, 6, [0])
    assert told["intervals"] in page.replace("&#39;", "'")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--users", "-5"), ("--users", "0"), ("--ads", "-1"), ("--ads", "0"), ("--seconds", "0"),
        ("--seed", "-1"), ("--seeds", "0"), ("--history", "-1"), ("--history", "nan"), ("--history", "inf"),
        ("--train-minutes", "-1"), ("--train-minutes", "0"), ("--train-minutes", "nan"),
    ],
)  # fmt: skip
def test_a_number_that_cannot_be_is_refused_with_its_option(option, value):
    done = CliRunner().invoke(app, ["simulate", option, value], catch_exceptions=False)
    assert done.exit_code == 2
    assert option in done.output


@pytest.mark.parametrize("policies", ["", ",", "nobody", "random,nobody"])
def test_policies_that_nobody_knows_are_refused_with_those_that_are_known(policies):
    done = CliRunner().invoke(app, ["simulate", "--policies", policies])
    assert isinstance(done.exception, SettingError)
    assert "expected some of" in str(done.exception)


def test_seeds_beyond_the_last_one_are_refused():
    done = CliRunner().invoke(app, ["simulate", "--seed", str(2**32), "--policies", "random"])
    assert isinstance(done.exception, SettingError)
    assert "seed" in str(done.exception)


def test_a_comma_at_the_end_names_nobody(tmp_path):
    (tmp_path / "world.toml").write_text(WORLD)
    words = ["simulate", "--world", str(tmp_path / "world.toml"), "--seconds", "1", "--history", "0"]
    done = CliRunner().invoke(app, [*words, "--policies", "random,", "--json"], catch_exceptions=False)
    assert set(json.loads(done.stdout)["policies"]) == {"random", "oracle"}


def test_the_only_shard_of_a_simulation_remembers_what_all_shards_of_a_flow_would():
    usual = load_settings()
    shards = usual.topics.partitions * usual.bounds.slices
    few, many = (one_shard_for_all(resized(WorldConfig(), users=users)) for users in (10, 20_000))
    assert few["decisions_per_shard"] == many["decisions_per_shard"] == 4096 * shards
    assert few["users_per_shard"] == 8192 and many["users_per_shard"] == 20_000


@pytest.mark.parametrize(("words", "seeds"), [((), [7, 8]), (("--seed", "3"), [3, 4])])
def test_the_first_seed_is_the_world_files_unless_another_is_given(tmp_path, words, seeds):
    (tmp_path / "world.toml").write_text("seed = 7\n" + WORLD)
    told = ["simulate", "--world", str(tmp_path / "world.toml"), "--seconds", "1", "--history", "0"]
    done = CliRunner().invoke(
        app, [*told, "--seeds", "2", "--policies", "random", "--json", *words], catch_exceptions=False
    )
    assert json.loads(done.stdout)["seeds"] == seeds
