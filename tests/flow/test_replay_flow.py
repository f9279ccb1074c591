"""`impulse replay` writes the same bytes whatever the batch, and the same decisions as the live flow."""

from __future__ import annotations

import json

import pytest
from support.flow_runs import MemoryLog, MemorySink, run_flow
from support.raw_log import RawLog
from typer.testing import CliRunner

from connectors.log_files import write_log
from flows.cli import app
from flows.personalize import personalize

STREAMS = ("decisions", "outcomes", "dead_letters")


@pytest.fixture(scope="module")
def recorded(world_log, tmp_path_factory):
    """Return a recorded log with some bad records and records of another topic in it."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl.zst"
    bad = RawLog(partition=9)
    bad.raw(b"{")
    bad.raw(b"\xff", None)
    foreign = world_log[0]._replace(topic="ads.outcomes.v1")
    write_log(path, [*world_log[:700], foreign, *bad.records, *world_log[700:]])
    return path


def replay(recorded, folder, *options: str) -> tuple[dict, dict[str, bytes]]:
    files = {stream: folder / f"{stream}.jsonl" for stream in STREAMS}
    named = [part for stream, path in files.items() for part in (f"--{stream.replace('_', '-')}", str(path))]
    artifacts = {"IMPULSE_ARTIFACTS": str(folder / "artifacts")}
    done = CliRunner().invoke(
        app, ["replay", str(recorded), "--json", *named, *options], env=artifacts, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), {stream: path.read_bytes() for stream, path in files.items()}


def test_the_bytes_of_a_replay_do_not_depend_on_the_batch(recorded, model, tmp_path):
    found = [
        replay(recorded, tmp_path / n, "--model", str(model), "--batch", n)[1] for n in ("1", "13", "512")
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0]["decisions"].splitlines()) > 500
    assert len(found[0]["dead_letters"].splitlines()) == 2


def test_its_figures_count_what_it_wrote(recorded, world_log, tmp_path):
    figures, files = replay(recorded, tmp_path)
    assert figures["records"] == len(world_log) + 2
    for stream in STREAMS:
        assert figures[stream] == len(files[stream].splitlines())


def test_a_replay_says_what_the_live_flow_said(recorded, world_log, service, model, tmp_path):
    sink = MemorySink()
    run_flow(personalize(MemoryLog(world_log, 37), sink, service(model=model)), workers=2)
    _, files = replay(recorded, tmp_path, "--model", str(model))
    for stream in ("decisions", "outcomes"):
        assert sorted(files[stream].splitlines()) == sorted(output.value for output in sink.stream(stream))


def test_decisions_leave_in_the_order_of_the_log(recorded, tmp_path):
    _, files = replay(recorded, tmp_path)
    places = [json.loads(line)["decision_id"].rsplit("-", 2)[1:] for line in files["decisions"].splitlines()]
    for partition in {p for p, _ in places}:
        offsets = [int(offset) for p, offset in places if p == partition]
        assert offsets == sorted(offsets)
