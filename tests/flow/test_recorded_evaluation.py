"""Recorded files as evaluation takes them: repeats count once, wrong files are refused."""

import pytest
from support.commands import impulse, options

from models.domain.errors import LogError


def doubled(own, tmp_path):
    """Return decisions and outcomes with some of their lines written again, as after a crash."""
    files = {}
    for name in ("--decisions", "--outcomes"):
        lines = own[name].read_text().splitlines(keepends=True)
        files[name] = tmp_path / own[name].name
        files[name].write_text("".join([*lines, *lines[::3]]))
    return {**own, **files}


@pytest.mark.parametrize(
    "words",
    [("decisions",), ("policy", "--replicates", 20), ("experiment", "--salt", "s")],
    ids=lambda w: w[0],
)
def test_what_was_recorded_twice_counts_once_and_is_told(own, tmp_path, words):
    names = ("--outcomes",) if words[0] == "experiment" else tuple(own)
    once = impulse("evaluate", *words, *options(own, *names))
    twice = impulse("evaluate", *words, *options(doubled(own, tmp_path), *names))
    assert (once.pop("repeats"), twice.pop("repeats") > 1000) == (0, True)
    assert twice == once


def test_a_policy_is_evaluated_whatever_the_events_topic_is_called(own, tmp_path):
    renamed = {name: tmp_path / file.name for name, file in own.items()}
    for name, file in own.items():
        renamed[name].write_text(file.read_text().replace("ads.events.v1", "our-events"))
    words = ("evaluate", "policy", "--replicates", 20)
    assert impulse(*words, *options(renamed)) == impulse(*words, *options(own))


def test_a_log_that_holds_none_of_the_decisions_is_refused(own, tmp_path):
    (tmp_path / "log.jsonl").write_text(own["--log"].read_text().replace("ads.events.v1", "our-events"))
    with pytest.raises(LogError, match="none of the recorded decisions"):
        impulse("evaluate", "policy", *options({**own, "--log": tmp_path / "log.jsonl"}))


@pytest.mark.parametrize(
    ("words", "given", "lacks"),
    [
        (("decisions",), {"--decisions": "--outcomes"}, "no decisions"),
        (("decisions",), {"--outcomes": "--decisions"}, "no outcomes"),
        (("decisions",), {"--log": "--log"}, "no decisions and no outcomes"),
        (("policy",), {"--decisions": "--outcomes", "--outcomes": "--outcomes"}, "no decisions"),
        (("policy",), {"--decisions": "--decisions", "--outcomes": "--decisions"}, "no outcomes"),
        (("experiment", "--salt", "s"), {"--outcomes": "--decisions"}, "no outcomes"),
    ],
)
def test_a_file_that_holds_nothing_of_what_it_is_named_for_is_refused(own, words, given, lacks):
    log = ("--log", own["--log"]) if words == ("policy",) else ()
    files = [word for option, kind in given.items() for word in (option, own[kind])]
    with pytest.raises(LogError, match=lacks):
        impulse("evaluate", *words, *log, *files)
