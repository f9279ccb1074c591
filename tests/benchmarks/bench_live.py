"""What a decision costs on a log like that of a running system, where everything a decision can do is done.

    python tests/benchmarks/bench_live.py [--json] [--quick]

The log is that of the closed loop: the core's own decisions are what users react to, so feedback joins;
the learner's adjustments and the pacer's multipliers come back through it every second, half the ads have
creatives, and the (random) Transformer has a segment table, an item graph and leanings. Lines are CPU time
per event, best of several rounds taken in turns; ``ratio`` is the flow divided by a plain loop over the same
functions, and both must write the same bytes. ``decide alone`` is what the same loop costs by the number of
requests that one call answers.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from bench_engine import Kit, Row, flow_rows
from printed import print_rows

from models.decide.chunks import chunks
from models.decide.pacing import paced
from models.decide.shard import Place, Shard
from models.domain.catalogue import Creative
from models.domain.decision import Decision, Outcome
from models.domain.events import AdUpsert, Control, Event
from models.domain.ids import key64, label_key
from models.domain.log import LogRecord, Received
from models.evaluation.logbook import Logbook
from models.evaluation.world import World
from models.evaluation.world_config import WorldConfig, resized
from models.learning.learner import Learner
from models.policy.pacing import Pacer
from models.scorer.config import ModelConfig
from models.scorer.leanings import LeaningTable
from models.scorer.neighbours import Neighbours
from models.scorer.segments import SegmentTable
from models.scorer.serving import TransformerScorer
from models.scorer.transformer import Transformer

ADS = 1000
PARTITIONS = 4
TICK_MS = 100
NEIGHBOURS, RECENT = 32, 8


def scorer_of(ads: Sequence[str]) -> TransformerScorer:
    """Return an untrained model of the default size with all that a trained one has beside the network."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = ModelConfig(vocabulary=len(ads))
    tensors = {name: value.numpy() for name, value in Transformer(config).eval().state_dict().items()}
    keys = np.sort(np.array([key64(ad) for ad in ads], np.uint64))
    rows = rng.integers(1, len(ads) + 1, (len(ads) + 1, NEIGHBOURS)).astype(np.int32)
    weights = np.sort(rng.random(rows.shape).astype(np.float32), axis=1)[:, ::-1].copy()
    decay = (0.8 ** np.arange(RECENT)).astype(np.float32)
    segments = np.sort(np.array([label_key(f"s{n}") for n in range(8)], np.uint64))
    logits = np.zeros((len(segments) + 1, config.categories), np.float32)
    logits[:-1] = rng.normal(0, 0.3, logits[:-1].shape)
    return TransformerScorer(
        config, {**tensors, "vocabulary_keys": keys}, "random",
        neighbours=Neighbours(rows, weights, decay, 1.0, 1.0), segments=SegmentTable(segments, logits),
        leanings=LeaningTable(np.full_like(logits, 1 / config.categories), 0.5),
    )  # fmt: skip


class Loop:
    """The closed loop that writes the log: a world, the core, and the learner whose records come back."""

    def __init__(self, config: WorldConfig, kit: Kit) -> None:
        self.log: list[LogRecord] = []
        self._world, self._book = World(config), Logbook(PARTITIONS)
        self._service = kit.service()
        self._shards: dict[Place, Shard] = {}
        self._learner, self._pacer = Learner(), Pacer()
        self._control: list[Control] = []

    def step(self) -> None:
        """Live through one tick."""
        happened = [_with_creatives(event) for event in self._world.step(self._world.now_ms + TICK_MS)]
        items = [Received(r, e) for e in (*self._control, *happened) for r in self._book.append(e)]
        self.log += [item.record for item in items]
        said = [e.body for part in chunks(items, self._service.slices) for e in self._process(part)]
        outcomes = [body for body in said if isinstance(body, Outcome)]
        self._control = [*self._learner.learn(outcomes).adjustments, *paced(self._pacer, outcomes)]
        for event in happened:
            if isinstance(event, AdUpsert):
                self._pacer.follow(event.ads)
        self._world.react([body for body in said if isinstance(body, Decision)])

    def _process(self, part):  # type: ignore[no-untyped-def]
        if part.place not in self._shards:
            self._shards[part.place] = self._service.new_shard(part.place)
        return self._shards[part.place].process(part.items)


def _with_creatives(event: Event) -> Event:
    """Give every other ad three creatives."""
    if not isinstance(event, AdUpsert):
        return event
    made = tuple(Creative(creative_id=f"c{n}", headline=f"Headline {n}") for n in range(3))
    ads = [msgspec.structs.replace(ad, creatives=made) if n % 2 else ad for n, ad in enumerate(event.ads)]
    return msgspec.structs.replace(event, ads=tuple(ads))


def live_log(kit: Kit, records: int) -> list[LogRecord]:
    """Return the first ``records`` records of the loop."""
    loop = Loop(resized(WorldConfig(), users=2000, ads=ADS, seed=0), kit)
    while len(loop.log) < records:
        loop.step()
    return loop.log[:records]


def measure(quick: bool) -> list[Row]:
    """Return all lines."""
    scorer = scorer_of([f"ad-{n:06d}" for n in range(ADS)])
    with tempfile.TemporaryDirectory() as name:
        kit = Kit("live log", scorer, Path(name), scorer.history_length)
        log = live_log(kit, 12_000 if quick else 40_000)
        return flow_rows("live log, Transformer", log, lambda: kit.service().new_shard, 1 if quick else 3)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print_rows(__doc__, measure, "a short log, one round")


if __name__ == "__main__":
    main()
