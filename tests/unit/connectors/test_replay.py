from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main

from connectors.log_files import write_log
from connectors.log_lines import decode_line
from connectors.replay import LogFileSource, OutputFileSink
from models.domain.errors import LogError
from models.domain.log import LogRecord, Output

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def numbered(count: int, gap_ms: int = 100) -> list[LogRecord]:
    return [LogRecord("t", 0, i, 5000 + i * gap_ms, b"u", b'{"n":%d}' % i) for i in range(count)]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.jsonl.zst"
    write_log(path, numbered(100))
    return path


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


def run_into(out: list, source, **options) -> None:
    flow = Dataflow("test")
    op.output("out", op.input("in", flow, source), TestingSink(out))
    run_main(flow, **options)


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_a_flow_gets_every_record_in_order_whatever_the_batch(log, batch_size):
    out = []
    run_into(out, LogFileSource(log, batch_size=batch_size))
    assert out == numbered(100)


def test_the_state_is_the_number_of_records_and_resumes_there(log):
    part = LogFileSource(log, batch_size=30).build_part("in", "log", None)
    part.next_batch()
    state = part.snapshot()
    assert state == {"version": 1, "records": 30}
    resumed = LogFileSource(log, batch_size=500).build_part("in", "log", state)
    assert resumed.next_batch() == numbered(100)[30:]


def test_a_state_of_another_version_is_refused(log):
    with pytest.raises(LogError, match="version 1"):
        LogFileSource(log).build_part("in", "log", {"version": 9, "records": 3})


def test_a_stopped_source_ends(log):
    stop = threading.Event()
    part = LogFileSource(log, stop=stop, pace=1).build_part("in", "log", None)
    stop.set()
    with pytest.raises(StopIteration):
        part.next_batch()


def test_at_recorded_pace_a_record_comes_when_its_time_has_passed(log):
    clock = Clock()
    part = LogFileSource(log, pace=1, now=clock).build_part("in", "log", None)
    assert part.next_batch() == numbered(1)
    clock.time += timedelta(milliseconds=250)
    assert part.next_batch() == numbered(100)[1:3]
    assert part.next_awake() == NOW + timedelta(milliseconds=300)


def test_at_ten_times_the_pace_ten_times_as_many_come(log):
    clock = Clock()
    part = LogFileSource(log, pace=10, now=clock).build_part("in", "log", None)
    part.next_batch()
    clock.time += timedelta(milliseconds=250)
    assert part.next_batch() == numbered(100)[1:26]
    assert part.snapshot() == {"version": 1, "records": 26}


def test_a_paced_replay_ends_after_the_last_record(log):
    clock = Clock()
    part = LogFileSource(log, pace=1, batch_size=60, now=clock).build_part("in", "log", None)
    part.next_batch()
    clock.time += timedelta(hours=1)
    assert len([r for _ in range(2) for r in part.next_batch()]) == 99
    with pytest.raises(StopIteration):
        part.next_batch()


def outputs(record: LogRecord) -> tuple[str, list[Output]]:
    place = (record.partition, record.offset)
    return "k", [
        Output("decisions", record.key, record.value, *place),
        Output("dead_letters", None, b"\xff\n", *place, headers=(("reason", b"x"),)),
        Output("outcomes", None, b"{}", *place),
    ]


def write(log, files, **options) -> None:
    flow = Dataflow("test")
    stream = op.map("decide", op.input("in", flow, LogFileSource(log, batch_size=10)), outputs)
    op.output("out", stream, OutputFileSink(files))
    run_main(flow, **options)


def test_decisions_stand_in_their_file_one_a_line_in_order(log, tmp_path):
    out = tmp_path / "new" / "decisions.jsonl"
    write(log, {"decisions": out})
    assert out.read_bytes().splitlines() == [r.value for r in numbered(100)]


def test_a_file_that_exists_is_replaced(log, tmp_path):
    out = tmp_path / "decisions.jsonl"
    out.write_bytes(b"old" * 10_000)
    write(log, {"decisions": out})
    assert len(out.read_bytes().splitlines()) == 100


def test_dead_letters_keep_any_bytes_and_their_headers(log, tmp_path):
    out = tmp_path / "dead.jsonl"
    write(log, {"dead_letters": out})
    letters = [decode_line(line) for line in out.read_bytes().splitlines()]
    assert len(letters) == 100
    assert letters[7] == LogRecord("dead_letters", 0, 7, 0, None, b"\xff\n", (("reason", b"x"),))


def test_a_flow_that_failed_and_resumed_writes_the_same_file_exactly_once(log, tmp_path):
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    write(log, {"decisions": whole})
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    init_db_dir(recovery, 1)
    failing = {"at": 57}

    def fail_once(record: LogRecord) -> tuple[str, list[Output]]:
        if record.offset == failing["at"]:
            raise RuntimeError("as if killed")
        return outputs(record)

    def attempt() -> None:
        flow = Dataflow("test")
        stream = op.map("decide", op.input("in", flow, LogFileSource(log, batch_size=10)), fail_once)
        op.output("out", stream, OutputFileSink({"decisions": resumed}))
        run_main(
            flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(recovery), timedelta(0))
        )

    with pytest.raises(RuntimeError):
        attempt()
    failing["at"] = -1
    attempt()
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_file_shorter_than_its_snapshot_is_refused(tmp_path):
    out = tmp_path / "decisions.jsonl"
    out.write_bytes(b"x")
    with pytest.raises(LogError, match="shorter than its last snapshot"):
        OutputFileSink({"decisions": out}).build_part("out", "files", {"version": 1, "decisions": 5})
