"""What a command is to write to is looked at before its work, and its figures come before its report."""

import json

import pytest
from support.outcomes import outcome
from typer.testing import CliRunner

from connectors.codec import encode
from flows.cli import app
from flows.commands import evaluation
from models.domain.errors import SettingError

FOLDERS = {
    "train --out": ("train", "--interactions", "none", "--out"),
    "train --checkpoints": ("train", "--interactions", "none", "--out", "new", "--checkpoints"),
    "simulate --folder": ("simulate", "--seconds", "1", "--folder"),
    "demo --folder": ("demo", "--folder"),
}
FILES = {
    "generate --out": ("generate", "--seconds", "1", "--out"),
    "convert --out": ("convert", "pairs", "none", "--out"),
    "record --out": ("record", "--out"),
    "replay --decisions": ("replay", "none", "--decisions"),
    "replay --outcomes": ("replay", "none", "--outcomes"),
    "replay --dead-letters": ("replay", "none", "--dead-letters"),
    "creatives --out": ("creatives", "--ads", "none", "--out"),
    "review --out": ("review", "--ads", "none", "--approve", "all", "--out"),
    "embed --out": ("embed", "none", "--encoder", "none", "--out"),
    "demo --json": ("demo", "--json"),
    "simulate --report": ("simulate", "--seconds", "1", "--report"),
    "evaluate decisions --report": ("evaluate", "decisions", "--report"),
    "evaluate experiment --report": ("evaluate", "experiment", "--outcomes", "x", "--salt", "s", "--report"),
    "evaluate ranking --report": ("evaluate", "ranking", "--model", "x", "--interactions", "x", "--report"),
}


def refused(words, path):
    error = CliRunner().invoke(app, [*words, str(path)]).exception
    assert isinstance(error, SettingError), error
    return str(error)


@pytest.mark.parametrize("words", FOLDERS.values(), ids=FOLDERS)
def test_a_file_where_a_folder_is_to_be_written_is_refused_first(words, tmp_path):
    (tmp_path / "file").write_text("")
    assert f"{words[-1]} {tmp_path}/file: got 'a file of that name'" in refused(words, tmp_path / "file")
    assert "nothing can be written" in refused(words, tmp_path / "file" / "below")


@pytest.mark.parametrize("words", FILES.values(), ids=FILES)
def test_a_folder_where_a_file_is_to_be_written_is_refused_first(words, tmp_path):
    (tmp_path / "file").write_text("")
    assert f"{words[-1]} {tmp_path}: got 'a folder of that name'" in refused(words, tmp_path)
    assert "nothing can be written" in refused(words, tmp_path / "file" / "below")


def test_figures_are_printed_before_a_report_that_fails(tmp_path, monkeypatch):
    def full(file, page):
        raise OSError("no space left")

    monkeypatch.setattr(evaluation, "write_report", full)
    told = tmp_path / "outcomes.jsonl"
    told.write_bytes(encode(outcome("click")) + b"\n")
    words = [
        "evaluate",
        "experiment",
        "--outcomes",
        told,
        "--salt",
        "s",
        "--report",
        tmp_path / "r",
        "--json",
    ]
    done = CliRunner().invoke(app, [*map(str, words)])
    assert isinstance(done.exception, OSError)
    assert json.loads(done.stdout)["outcomes"] == 1
