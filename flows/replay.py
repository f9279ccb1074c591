"""A recorded log through the very same steps; decisions, outcomes and dead letters into files.

The bytes of the files do not depend on the batch size: each batch's outputs are put back into the order of
the records that caused them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from connectors.replay import LogFileSource, OutputFileSink
from models.domain.log import LogRecord, Output

from .operators import Keyed, chunk, decide, decode, encode_outputs
from .service import Service


@dataclass
class Sequencer:
    """Puts the outputs of a batch back into the order of its records, and counts both.

    For one worker: the records of one batch have all been decided when its outputs arrive.
    """

    topic: str
    records: int = 0
    outputs: Counter[str] = field(default_factory=Counter)
    _place: dict[tuple[int, int], int] = field(default_factory=dict)

    def note(self, batch: list[LogRecord]) -> list[LogRecord]:
        """Remember the order of a batch; drop records of other topics."""
        kept = [record for record in batch if record.topic == self.topic]
        self._place = {(r.partition, r.offset): place for place, r in enumerate(kept)}
        self.records += len(kept)
        return kept

    def restore(self, batch: list[Keyed]) -> list[Keyed]:
        """Return the batch's outputs as one item, in order."""
        outputs: list[Output] = [output for _, group in batch for output in group]
        outputs.sort(key=lambda o: self._place[o.source_partition, o.source_offset])
        self.outputs.update(output.stream for output in outputs)
        return [("replay", outputs)]


def flow(
    log: Path,
    files: Mapping[str, Path],
    service: Service,
    *,
    topic: str = "ads.events.v1",
    batch_size: int = 512,
    pace: float | None = None,
    stop: threading.Event | None = None,
    sequencer: Sequencer | None = None,
) -> Dataflow:
    """Return the dataflow that replays a log; ``files`` names a file for each output stream wanted."""
    sequencer = sequencer or Sequencer(topic)
    dataflow = Dataflow("replay")
    records: Stream[LogRecord] = op.input(
        "log", dataflow, LogFileSource(log, batch_size=batch_size, pace=pace, stop=stop)
    )
    noted = op.flat_map_batch("note", records, sequencer.note)
    items = decode("decode", noted, service.codec)  # Received | Rejected
    shards = chunk("chunk", items, service.slices)  # (shard key, Chunk)
    emissions = decide("decide", shards, service.new_shard)  # (shard key, [Emission])
    outputs = encode_outputs("encode", emissions)  # (shard key, [Output])
    ordered = op.flat_map_batch("order", outputs, sequencer.restore)  # ("replay", [Output])
    op.output("out", ordered, OutputFileSink(files))
    return dataflow
