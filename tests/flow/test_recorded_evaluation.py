"""Recorded files as evaluation takes them: repeats count once, wrong files are refused."""

import json
import math

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


@pytest.mark.parametrize("names_it", ["policy", "experiment", "why"])
def test_what_stands_in_the_events_topic_is_no_decision_and_no_outcome(own, tmp_path, monkeypatch, names_it):
    renamed = {name: tmp_path / file.name for name, file in own.items()}
    for name, file in own.items():
        renamed[name].write_text(file.read_text().replace("ads.events.v1", "our-events"))
    stray = {"topic": "our-events", "partition": 0, "offset": 10**6, "timestamp_ms": 1}
    stray["value"] = {"behavior_policy": "x", "kind": 3}
    for name in ("--decisions", "--outcomes"):
        renamed[name].write_text(json.dumps(stray) + "\n" + renamed[name].read_text())
    monkeypatch.setenv("IMPULSE_TOPICS__EVENTS", "our-events")
    decision_id = json.loads(renamed["--decisions"].read_text().splitlines()[-1])["decision_id"]
    told = impulse(
        *{
            "policy": ("evaluate", "policy", "--replicates", 20, *options(renamed)),
            "experiment": ("evaluate", "experiment", "--salt", "s", *options(renamed, "--outcomes")),
            "why": ("why", decision_id, *options(renamed, "--decisions")),
        }[names_it]
    )
    assert told


def test_a_log_that_holds_none_of_the_decisions_is_refused(own, tmp_path):
    (tmp_path / "log.jsonl").write_text(own["--log"].read_text().replace("ads.events.v1", "our-events"))
    with pytest.raises(LogError, match="none of the recorded decisions"):
        impulse("evaluate", "policy", *options({**own, "--log": tmp_path / "log.jsonl"}))


@pytest.mark.parametrize(
    ("words", "given", "lacks"),
    [
        (("decisions",), {"--decisions": "--outcomes"}, "no decisions"),
        (("decisions",), {"--outcomes": "--decisions"}, "no outcomes"),
        (("decisions",), {"--log": "--log"}, "neither decisions nor outcomes"),
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


def with_records(log, tmp_path, *values):
    """Return a log with these values behind its last record."""
    last = json.loads(log.read_text().splitlines()[-1])
    lines = [
        json.dumps({**last, "offset": last["offset"] + n, "value": value})
        for n, value in enumerate(values, 1)
    ]
    (tmp_path / "log.jsonl").write_text(log.read_text() + "".join(f"{line}\n" for line in lines))
    return tmp_path / "log.jsonl"


def adjustments(version, **fields):
    return {"type": "adjustments", "id": f"v{version}", "event_time": 1, "version": version, **fields}


def test_how_slots_are_looked_at_is_read_off_the_newest_adjustments_of_the_log(own, tmp_path):
    told = [adjustments(1, position_logits=[0, -2, -2]), adjustments(7, position_logits=[0, -0.5, -1])]
    log = with_records(own["--log"], tmp_path, *told, adjustments(8, bias=[0.1, 0.1]), told[0])
    known = impulse("evaluate", "decisions", *options({**own, "--log": log}))
    assert known["examination"] == pytest.approx([1, math.exp(-0.5), math.exp(-1)])
    unknown = impulse("evaluate", "decisions", *options(own))
    assert (unknown["examination"], known["note"]) == (None, "")
    assert "not known" in unknown["note"]
    assert known["click"]["ece"] != unknown["click"]["ece"]
    assert known["first_slot"] == unknown["first_slot"]


def test_ads_of_the_log_that_were_never_shown_count_in_the_inequality(own, tmp_path):
    more = [{"ad_id": f"never-{n}", "campaign_id": "c"} for n in range(50)]
    log = with_records(own["--log"], tmp_path, {"type": "ad_upsert", "id": "u", "event_time": 1, "ads": more})
    before, after = (
        impulse("evaluate", "decisions", *options({**own, "--log": file}))["exposure"]
        for file in (own["--log"], log)
    )
    assert after["ads"] == before["ads"] + 50 and after["ads_shown"] == before["ads_shown"]
    assert after["gini"] > before["gini"] + 0.2
