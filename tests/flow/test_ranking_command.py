"""`impulse evaluate ranking --table`: every baseline beside the model, each trained as the model was."""

import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from models.evaluation.tables import LABELS

BASELINES = [
    "popularity", "markov", "first_stage", "without_graph", "mlp", "gru", "sasrec", "sasrec_with_graph",
]  # fmt: skip
CONFIG = """
[model]
d_model = 16
window = 8
rotary_length = 32
head_width = 8
[training]
steps = 40
tokens = 512
piece = 32
negatives = 16
validations = 1
"""


def impulse(*words):
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Users who walk around a ring of items, and a small model of them."""
    folder = tmp_path_factory.mktemp("ranking")
    lines = [f"{user} {(user * 7 + n) % 30}" for user in range(60) for n in range(9)]
    (folder / "ring").write_text("\n".join(lines))
    (folder / "small.toml").write_text(CONFIG)
    impulse(
        "train", "--interactions", folder / "ring", "--out", folder / "model",
        "--config", folder / "small.toml", "--json",
    )  # fmt: skip
    return folder


def test_all_baselines_stand_in_one_object_with_the_model(trained):
    words = ("--model", trained / "model", "--interactions", trained / "ring", "--table", "--json")
    told = json.loads(impulse("evaluate", "ranking", *words))
    assert list(told["baselines"]) == BASELINES
    learned = {name: told["baselines"][name]["hr@10"] for name in ("markov", "gru", "sasrec")}
    assert min(*learned.values(), told["hr@10"]) > told["baselines"]["popularity"]["hr@10"] + 0.2


def test_the_report_holds_the_tables_the_plots_and_the_training_curve(trained):
    words = ("--model", trained / "model", "--interactions", trained / "ring", "--baselines")
    impulse("evaluate", "ranking", *words, "--report", trained / "made" / "report.html", "--json")
    page = (trained / "made" / "report.html").read_text()
    for told in (
        "Ranking ring",
        "markov",
        "popularity",
        "60",
        "NDCG@10 by the length of the user",
        "leave-one-out",
    ):
        assert told in page
    assert page.count("<svg") == 3, "training, HR@10 and NDCG@10"


def test_people_get_tables_and_a_plot_beside_the_model(trained):
    out = impulse(
        "evaluate", "ranking", "--model", trained / "model", "--interactions", trained / "ring", "--table"
    )
    assert "60 users, 30 items; leave-one-out" in out
    assert all(f"| {LABELS.get(name, name)} | " in out for name in (*BASELINES, "Impulse"))
    assert (trained / "model" / "ranking.png").stat().st_size > 1000
