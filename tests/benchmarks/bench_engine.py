"""What the flow costs around the decision core, what a decision costs, and what a snapshot costs.

    python tests/benchmarks/bench_engine.py [--json] [--quick]

The log is made by the simulated world; the model is a random Transformer of the default size. Lines
with a ratio are per event: the Bytewax steps of `flows.replay` (decode, chunk per shard, decide, encode)
divided by a plain Python loop over the very same functions in the same run; both must write the same
bytes. "engine only" puts a shard that only counts in the place of the real one. The others are per call.
Times are CPU time of this process, the best of several rounds taken in turns, so that a busy machine
disturbs them less.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import bytewax.operators as op
import numpy as np
import torch
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from printed import print_rows

from connectors.codec import EventCodec
from flows import operators
from flows.service import Service, StoredResources
from models.decide.chunks import Item, chunks
from models.decide.decider import Decider, Group
from models.decide.job import Job
from models.decide.shard import Place, Shard, ShardBounds, Turn
from models.decide.views import ViewBuilder
from models.domain.events import Request, View
from models.domain.ids import key64
from models.domain.log import Emission, LogRecord, Output, Received
from models.evaluation.generate import generate_log
from models.evaluation.world_config import WorldConfig, resized
from models.scorer.config import ModelConfig
from models.scorer.interface import Scorer
from models.scorer.popularity import PopularityScorer
from models.scorer.serving import TransformerScorer
from models.scorer.transformer import Transformer

BATCHES = (16, 64, 512)
ADS = 1000
SLICES = 16
SNAPSHOT_USERS = 10_000
EVENTS_PER_USER = 10

Row = dict[str, Any]
Written = Callable[[Sequence[Output]], None]


class CountingShard:
    """Stands in for a shard where the engine alone is measured: counts the events of each user."""

    def __init__(self, place: Place) -> None:
        self.counts: Counter[str] = Counter()

    def process(self, items: Sequence[Item]) -> list[Emission]:
        """Count; emit nothing."""
        for item in items:
            if isinstance(item, Received):
                self.counts[getattr(item.event, "user_id", "")] += 1
        return []

    def take(self, items: Sequence[Item]) -> Turn:
        """Count; leave nothing open."""
        return Turn(self, self.process(items))

    def close_turn(self, out: list[Emission]) -> None:
        """Nothing is ever open."""

    def dump(self) -> bytes:
        """Return the counts."""
        return json.dumps(self.counts).encode()


class _Batches(DynamicSource[LogRecord]):
    def __init__(self, batches: Sequence[list[LogRecord]]) -> None:
        self._batches = batches

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Part:
        return _Part(iter(self._batches))


class _Part(StatelessSourcePartition[LogRecord]):
    def __init__(self, batches: Iterator[list[LogRecord]]) -> None:
        self._batches = batches

    def next_batch(self) -> list[LogRecord]:
        return next(self._batches)


class _Sink(DynamicSink[operators.Keyed], StatelessSinkPartition[operators.Keyed]):
    def __init__(self, write: Written) -> None:
        self._write = write

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Sink:
        return self

    def write_batch(self, items: list[operators.Keyed]) -> None:
        for _, outputs in items:
            self._write(outputs)


class Sum:
    """The outputs of a run: how many decisions, and a sum of their bytes that no order changes."""

    def __init__(self) -> None:
        self.decisions, self.digest = 0, 0

    def add(self, outputs: Sequence[Output]) -> None:
        """Count outputs."""
        for output in outputs:
            self.decisions += output.stream == "decisions"
            self.digest ^= int.from_bytes(blake2b(output.value or b"", digest_size=8).digest(), "little")


def as_flow(batches: Sequence[list[LogRecord]], new_shard: Callable[[Place], Any], write: Written) -> None:
    """Run the flow over batches."""
    dataflow = Dataflow("bench")
    records = op.input("log", dataflow, _Batches(batches))
    items = operators.decode("decode", records, EventCodec())
    shards = operators.chunk("chunk", items, SLICES)
    emissions = operators.decide("decide", shards, new_shard)
    op.output("out", operators.encode_outputs("encode", emissions), _Sink(write))
    run_main(dataflow)


def as_loop(batches: Sequence[list[LogRecord]], new_shard: Callable[[Place], Any], write: Written) -> None:
    """Run the same functions over batches with no engine; like it, dump every shard at the end."""
    codec, shards = EventCodec(), {}
    for batch in batches:
        turns = []
        for chunk in chunks([operators.decode_record(codec, record) for record in batch], SLICES):
            shard = shards.get(chunk.place)
            if shard is None:
                shard = shards[chunk.place] = new_shard(chunk.place)
            turns.append(shard.take(chunk.items))
        for turn in turns:
            if emissions := turn.emissions():
                write([operators.encode_emission(emission) for emission in emissions])
    for shard in shards.values():
        shard.dump()


def flow_rows(what: str, log: list[LogRecord], new_shard: Callable[[], Any], rounds: int) -> list[Row]:
    """Return the flow against the loop, per batch size; ``new_shard`` makes a maker of fresh shards."""
    found = []
    for size in BATCHES:
        batches = [log[i : i + size] for i in range(0, len(log), size)]
        least, sums = [np.inf, np.inf], set()
        for turn in range(2 * rounds + 1):  # the first one only warms up
            run, total = (as_flow, as_loop)[turn % 2], Sum()
            maker, begun = new_shard(), time.process_time()
            run(batches, maker, total.add)
            seconds = time.process_time() - begun
            sums.add((total.decisions, total.digest))
            if turn:
                least[turn % 2] = min(least[turn % 2], seconds)
        if len(sums) != 1:
            raise AssertionError(f"flow and loop wrote different bytes: {sums}")
        found.append(_flow_row(what, size, least, len(log), sums.pop()[0]))
    return found


def _flow_row(what: str, size: int, least: list[float], events: int, decisions: int) -> Row:
    flow_s, loop_s = least
    return {
        "what": what,
        "how": f"batch {size}",
        "us": round(flow_s / events * 1e6, 2),
        "per_s": round(events / flow_s),
        "loop_us": round(loop_s / events * 1e6, 2),
        "ratio": round(flow_s / loop_s, 2),
        "decisions_per_s": round(decisions / flow_s),
    }


class Kit(NamedTuple):
    """What the shards of one measurement share."""

    name: str
    scorer: Scorer
    folder: Path
    history: int

    def service(self, users: int = 8192) -> Service:
        """Return a fresh service: no view, no hot user."""
        views = ViewBuilder(self.scorer, StoredResources(self.folder, 512), self.history)
        return Service(views, Decider(views), ShardBounds(users=users), SLICES, EventCodec())


def random_transformer(ads: Sequence[str]) -> TransformerScorer:
    """Return an untrained model of the default size that knows these ads."""
    torch.manual_seed(0)
    config = ModelConfig(vocabulary=len(ads))
    tensors = {name: value.numpy() for name, value in Transformer(config).eval().state_dict().items()}
    keys = np.sort(np.array([key64(ad) for ad in ads], np.uint64))
    return TransformerScorer(config, {**tensors, "vocabulary_keys": keys}, "random")


def decide_rows(kit: Kit, log: list[LogRecord], repeat: int) -> list[Row]:
    """Return what one call of `Decider.decide` costs, by the number of users, after the log's events."""
    service, codec = kit.service(), EventCodec()
    shard = Shard(Place("ads.events.v1", 0, 0), service.views, service.decider, service.bounds)
    shard.process([operators.decode_record(codec, record) for record in log if record.partition == 0])
    users, now, found = list(shard.rows.items()), shard.watermark.time_ms, []
    for size in (1, 3, 8, 64):
        jobs = [
            Job(row, LogRecord("ads.events.v1", 0, 10**6 + n, now, None, None),
                Request(id="r", event_time=now, user_id=user), "request")
            for n, (user, row) in enumerate(users[:size])
        ]  # fmt: skip
        seconds = best(partial(service.decider.decide, shard.view, [Group(shard.profiles, jobs)]), repeat)
        found.append(
            _timed(f"decide, {kit.name}", f"{size} users", seconds, decisions_per_s=round(size / seconds))
        )
    return found


def snapshot_rows(kit: Kit, log: list[LogRecord], repeat: int) -> list[Row]:
    """Return what it costs to write and read back a shard of SNAPSHOT_USERS users."""
    service = kit.service(SNAPSHOT_USERS)
    shard = _crowd(service, [record for record in log if record.key is None], kit.history)
    data = shard.dump()
    place = f"{SNAPSHOT_USERS} users, {len(data) / 1e6:.1f} MB"

    def resume() -> None:
        Shard(shard.place, service.views, service.decider, service.bounds).load(data)

    return [
        _timed("snapshot", place, best(shard.dump, repeat), bytes_per_user=len(data) // SNAPSHOT_USERS),
        _timed("resume", place, best(resume, repeat)),
    ]


def _crowd(service: Service, catalogue: list[LogRecord], history: int) -> Shard:
    """Return a shard whose users have each looked at some ads."""
    codec = EventCodec()
    shard = Shard(Place("ads.events.v1", 0, 0), service.views, service.decider, service.bounds)
    shard.process([operators.decode_record(codec, record) for record in catalogue if record.partition == 0])
    now, looks = shard.watermark.time_ms + 10**6, []
    for n in range(SNAPSHOT_USERS * EVENTS_PER_USER):
        view = View(
            id=str(n), event_time=now + n, user_id=f"user-{n % SNAPSHOT_USERS}", ad_id=f"ad-{n % 997}"
        )
        looks.append(Received(LogRecord("ads.events.v1", 0, 10**6 + n, now + n, None, None), view))
    shard.process(looks)
    return shard


def best(run: Callable[[], object], repeat: int) -> float:
    """Return the least CPU seconds of one call over five rounds of ``repeat`` calls."""
    run()
    rounds = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(repeat):
            run()
        rounds.append((time.process_time() - begun) / repeat)
    return min(rounds)


def _timed(what: str, how: str, seconds: float, **more: float) -> Row:
    return {"what": what, "how": how, "us": round(seconds * 1e6, 1), "per_s": round(1 / seconds), **more}


def measure(quick: bool) -> list[Row]:
    """Return all lines."""
    world = resized(WorldConfig(), users=2000, ads=ADS, seed=0)
    log = list(islice(generate_log(world, 60.0), 6_000 if quick else 20_000))
    rounds = 1 if quick else 3
    rows = flow_rows("engine only", log, lambda: CountingShard, 3 * rounds)
    with tempfile.TemporaryDirectory() as name:
        for kit in _kits(Path(name)):
            rows += flow_rows(f"whole path, {kit.name}", log, lambda k=kit: k.service().new_shard, rounds)
            rows += decide_rows(kit, log, 20 if quick else 100)
        rows += snapshot_rows(kit, log, 1 if quick else 2)
    return rows


def _kits(folder: Path) -> list[Kit]:
    transformer = random_transformer([f"ad-{n:06d}" for n in range(ADS)])
    length = transformer.history_length
    return [
        Kit("popularity", PopularityScorer(), folder, length),
        Kit("Transformer", transformer, folder, length),
    ]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print_rows(__doc__, measure, "a short log, one round")


if __name__ == "__main__":
    main()
