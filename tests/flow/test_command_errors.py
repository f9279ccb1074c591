"""An error that Impulse raises on purpose is one message and exit code 2, wherever it was raised."""

from __future__ import annotations

import re

import pytest

from connectors.log_files import write_log
from flows import cli


@pytest.fixture
def said(monkeypatch, capfd):
    """Run the command line as a user does; return its exit code and what it says of an error."""

    def said(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["impulse", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capfd.readouterr().err

    return said


def test_a_log_that_is_missing_is_one_message(said, tmp_path):
    code, text = said("replay", str(tmp_path / "none.jsonl"))
    assert code == 2
    assert text.startswith("impulse: ") and text.count("\n") == 1 and "none.jsonl: cannot be read" in text


def test_what_is_said_last_of_an_error_inside_a_flow_is_its_message(said, world_log, tmp_path):
    log = tmp_path / "cut.jsonl"
    write_log(log, world_log[:50])
    log.write_bytes(log.read_bytes()[:-20])
    code, text = said("replay", str(log))
    told = text.splitlines()[-1]
    assert code == 2 and told.startswith("impulse: ") and "the file is cut short" in told


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--decisions", "both", "--outcomes", "./both"), "file of outcomes: got .*both, that of decisions"),
        (("--dead-letters", "sub/../log.jsonl"), "file of dead_letters: got .*log.jsonl, that of log"),
    ],
)
def test_two_streams_into_one_file_are_refused(said, world_log, tmp_path, monkeypatch, options, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    write_log(tmp_path / "log.jsonl", world_log[:50])
    log = (tmp_path / "log.jsonl").read_bytes()
    code, text = said("replay", "log.jsonl", *options)
    assert code == 2 and re.search(named, text) and "Fix: name another" in text
    assert (tmp_path / "log.jsonl").read_bytes() == log and not (tmp_path / "both").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "pairs", "read", "--out", "./read"),
        ("generate", "--world", "read", "--out", "read"),
        ("simulate", "--world", "read", "--report", "read"),
        ("evaluate", "bandit", "read", "--report", "read"),
        ("evaluate", "decisions", "--outcomes", "read", "--report", "read"),
        ("evaluate", "experiment", "--salt", "s", "--outcomes", "read", "--report", "read"),
        ("evaluate", "stream", "--interactions", "read", "--report", "read"),
        ("evaluate", "ranking", "--model", "m", "--interactions", "read", "--report", "read"),
        ("evaluate", "policy", "--log", "l", "--decisions", "d", "--outcomes", "read", "--report", "read"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_nothing_is_written_over_a_file_that_the_command_reads(said, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "read").write_text("u i\n")
    code, text = said(*words)
    assert code == 2 and "got 'a file that is read', expected a file of its own" in text
    assert (tmp_path / "read").read_text() == "u i\n"


@pytest.mark.parametrize("option", ["--model", "--policy"])
def test_what_only_impulses_own_log_reads_is_refused_without_it(said, tmp_path, option):
    code, text = said("generate", "--out", str(tmp_path / "log.jsonl"), option, "nope")
    assert code == 2 and "add --own" in text
    assert not (tmp_path / "log.jsonl").exists()


def test_items_that_training_from_a_log_would_not_read_are_refused(said, tmp_path):
    code, text = said("train", "--log", "log.jsonl", "--items", "/nope", "--out", str(tmp_path / "m"))
    assert code == 2 and "drop --items" in text


def test_an_error_that_was_not_meant_stays_what_it_is(monkeypatch):
    def broken():
        raise KeyError("x")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(KeyError):
        cli.main()
