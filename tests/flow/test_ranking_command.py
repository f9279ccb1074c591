"""`impulse evaluate ranking --table`: every baseline beside the model, each trained as the model was."""

import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from models.domain.errors import LogError
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


def test_a_file_that_the_model_was_not_trained_on_is_named_as_such(trained, tmp_path):
    (tmp_path / "other").write_text("\n".join(f"{user} {item}" for user in "ab" for item in (1, 2, 3, 99)))
    words = ("evaluate", "ranking", "--model", trained / "model", "--interactions")
    own, other = (
        json.loads(impulse(*words, file, "--json")) for file in (trained / "ring", tmp_path / "other")
    )
    assert (own["same_data"], own["known_items"]) == (True, 30)
    assert (other["same_data"], other["known_items"]) == (False, 3)
    note = "not the data that the model was trained on, the model knows 3 of the items"
    page = tmp_path / "page.html"
    assert note in impulse(*words, tmp_path / "other", "--report", page) and note in page.read_text()
    assert note[:20] not in impulse(*words, trained / "ring")


def test_a_file_none_of_whose_items_the_model_knows_is_refused(trained, tmp_path):
    (tmp_path / "other").write_text("u x\nu y\nu z\n")
    with pytest.raises(LogError, match="none that the model knows"):
        impulse("evaluate", "ranking", "--model", trained / "model", "--interactions", tmp_path / "other")


def test_a_model_that_is_told_when_the_target_came_stands_beside_the_same_one_untold(tmp_path):
    """Times tell which of two items follows: the next one at once, the one opposite a day later."""
    rows, now, item = ["user_id:token\titem_id:token\ttimestamp:float"], 1_000_000_000, 0
    for user in range(80):
        for n in range(10):
            late = (user * 31 + n * n * 7) % 3 == 0
            now, item = now + (86_400 if late else 5), (item + (15 if late else 1)) % 30
            rows.append(f"{user}\t{item}\t{now}")
    (tmp_path / "rings.inter").write_text("\n".join(rows))
    (tmp_path / "config.toml").write_text(CONFIG.replace("[training]", "use_wait = true\n[training]"))
    data = ("--interactions", tmp_path / "rings.inter", "--format", "recbole")
    impulse("train", *data, "--out", tmp_path / "model", "--config", tmp_path / "config.toml", "--json")
    told = json.loads(
        impulse("evaluate", "ranking", "--model", tmp_path / "model", *data, "--table", "--json")
    )
    assert "when the target came" in told["protocol"]
    assert list(told["baselines"]) == [*BASELINES[:4], "without_time", *BASELINES[4:]]
    assert told["ndcg@1"] > told["baselines"]["without_time"]["ndcg@1"]


def test_training_tells_its_progress_in_lines_where_there_is_no_terminal(trained):
    command = (
        "train", "--interactions", trained / "ring", "--out", trained / "again",
        "--config", trained / "small.toml", "--json",
    )  # fmt: skip
    done = CliRunner().invoke(app, [*map(str, command)], catch_exceptions=False)
    lines = done.stderr.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"training {n} %" for n in range(10, 101, 10)]
    assert all("epoch" in line and "loss" in line for line in lines)
    assert json.loads(done.stdout)["steps"] == 40
