"""Decisions and outcomes read back from files."""

import msgspec
import pytest
from support.outcomes import outcome
from support.shards import Bench, LogBuilder, bodies, run

from connectors.codec import encode
from connectors.log_files import write_log
from connectors.outputs import read_decisions, read_outcomes, read_outputs
from models.domain.decision import Decision
from models.domain.errors import LogError
from models.domain.log import LogRecord


def decision():
    log = LogBuilder()
    log.ads()
    log.request()
    return bodies(run(Bench().shard(), log.records), Decision)[0]


def test_the_lines_that_replay_writes_are_read_back_equal(tmp_path):
    made, told = decision(), outcome()
    file = tmp_path / "both.jsonl"
    file.write_bytes(encode(made) + b"\n" + encode(told) + b"\n")
    assert list(read_outputs(file)) == [made, told]
    assert list(read_decisions(file)) == [made]
    assert list(read_outcomes(file)) == [told]


@pytest.mark.parametrize("name", ["topics.jsonl", "topics.jsonl.zst"])
def test_recorded_topics_give_the_same_and_events_are_passed_over(tmp_path, name):
    made, log = decision(), LogBuilder()
    log.request()
    event = msgspec.json.encode(log.records[0].event)
    records = [
        LogRecord("ads.events.v1", 0, 0, 0, b"u", event),
        LogRecord("ads.decisions.v1", 0, 0, 0, b"u", encode(made)),
        LogRecord("ads.decisions.v1", 0, 1, 0, b"u", None),
    ]
    write_log(tmp_path / name, records)
    assert list(read_outputs(tmp_path / name)) == [made]


@pytest.mark.parametrize("topic", ["ads.events.v1", "shop.clicks"])
@pytest.mark.parametrize(
    "value",
    [b"\xff", b"not json", b'{"kind":"click"}', b"{}", b"[1]", b"null", b"5", b'{"type":5}', b"[" * 5000],
)
def test_a_bad_event_in_a_recording_is_passed_over(tmp_path, topic, value):
    made, told = decision(), outcome()
    records = [
        LogRecord(topic, 0, 0, 0, b"u", value),
        LogRecord("ads.decisions.v1", 0, 0, 0, b"u", encode(made)),
        LogRecord("ads.outcomes.v1", 0, 0, 0, b"u", encode(told)),
    ]
    write_log(tmp_path / "log.jsonl", records)
    assert list(read_outputs(tmp_path / "log.jsonl")) == [made, told]


def test_an_event_that_is_shaped_like_an_outcome_is_none(tmp_path):
    told = encode(outcome())
    write_log(tmp_path / "log.jsonl", [LogRecord(t, 0, 0, 0, b"u", told) for t in ("ads.events.v1", "mine")])
    assert len(list(read_outcomes(tmp_path / "log.jsonl"))) == 1
    (one,) = read_outcomes(tmp_path / "log.jsonl", events="mine")
    assert one == outcome()


@pytest.mark.parametrize("cut", [1, 40])
def test_a_broken_decision_in_a_recording_is_named_by_file_and_line(tmp_path, cut):
    write_log(
        tmp_path / "log.jsonl", [LogRecord("ads.decisions.v1", 0, 0, 0, b"u", encode(decision())[:-cut])]
    )
    with pytest.raises(LogError, match=r"log\.jsonl:1: got"):
        list(read_outputs(tmp_path / "log.jsonl"))


@pytest.mark.parametrize("line", [b"{}", b"[1]", b'{"kind":"click"}', b"not json", b'{"a":' * 50_000])
def test_a_line_that_is_neither_is_named_by_file_and_line(tmp_path, line):
    file = tmp_path / "bad.jsonl"
    file.write_bytes(line + b"\n")
    with pytest.raises(LogError, match=r"bad\.jsonl:1: got"):
        list(read_outputs(file))
