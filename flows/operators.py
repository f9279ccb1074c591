"""Steps that the flows share: decode, chunk per shard, decide, encode.

Items between the steps:

    LogRecord ─decode▸ Received | Rejected ─chunk▸ (shard key, Chunk)
              ─decide▸ (shard key, [Emission]) ─encode▸ (shard key, [Output])

Bad input is an item like any other (`Rejected`): it stays in its place in the order of its shard and
leaves by the same sink as everything else that its partition causes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from connectors.codec import EventCodec, encode
from connectors.dead_letters import to_dead_letter
from models.decide.chunks import Chunk, Item, chunks
from models.decide.shard import Place, Shard, Turn
from models.domain.decision import Decision, Interest, Outcome
from models.domain.errors import BadRecord
from models.domain.log import Emission, LogRecord, Output, Received, Rejected

Keyed = tuple[str, Sequence[Output]]


@operator
def decode(step_id: str, up: Stream[LogRecord], codec: EventCodec) -> Stream[Item]:
    """Decode and validate each record; what cannot be used becomes `Rejected`."""

    def shim_batch(records: list[LogRecord]) -> list[Item]:
        return [decode_record(codec, record) for record in records]

    return op.flat_map_batch("flat_map_batch", up, shim_batch)


def decode_record(codec: EventCodec, record: LogRecord) -> Item:
    """Return the event in a record, or why there is none."""
    try:
        return Received(record, codec.decode(record))
    except BadRecord as error:
        return Rejected(record, error, "decode")


@operator
def chunk(step_id: str, up: Stream[Item], slices: int) -> KeyedStream[Chunk]:
    """Group a batch into one chunk per shard, in order; control records go to every slice."""

    def shim_batch(items: list[Item]) -> list[tuple[str, Chunk]]:
        return [(part.place.key, part) for part in chunks(items, slices)]

    return op.flat_map_batch("flat_map_batch", up, shim_batch)


@operator
def decide(
    step_id: str, up: KeyedStream[Chunk], new_shard: Callable[[Place], Shard]
) -> KeyedStream[list[Emission]]:
    """Move each shard's state on by its chunks; emit decisions, outcomes and rejected records.

    The shards leave their last decisions open, and the step after them, which gets the turns of all shards
    at once, has them made together. Should it ever get them apart, the results are the same.

    The shards of a process share caches that are not made for threads, so its workers take turns (under the
    interpreter's lock they would gain nothing anyway: run one worker per process).
    """
    one_at_a_time = threading.Lock()
    turns: KeyedStream[Turn] = op.stateful_batch(
        "stateful_batch", up, lambda state: ShardLogic(new_shard, state, one_at_a_time)
    )

    def shim_batch(turns: list[tuple[str, Turn]]) -> list[tuple[str, list[Emission]]]:
        with one_at_a_time:
            said = [(key, turn.emissions()) for key, turn in turns]
        return [(key, emissions) for key, emissions in said if emissions]

    return op.flat_map_batch("settle", turns, shim_batch)


class ShardLogic(StatefulBatchLogic[Chunk, Turn, bytes]):
    """One shard inside Bytewax: made when its first chunk arrives, from its snapshot if there is one."""

    def __init__(
        self, new_shard: Callable[[Place], Shard], state: bytes | None, one_at_a_time: threading.Lock
    ) -> None:
        self._new_shard = new_shard
        self._one_at_a_time = one_at_a_time
        self._state = state
        self._shard: Shard | None = None

    def on_batch(self, values: list[Chunk]) -> tuple[list[Turn], bool]:
        """Process the shard's chunks in order."""
        items = values[0].items if len(values) == 1 else [i for part in values for i in part.items]
        with self._one_at_a_time:
            shard = self._shard or self._open(values[0].place)
            return [shard.take(items)], self.RETAIN

    def snapshot(self) -> bytes:
        """Return the shard's state as bytes of plain data."""
        with self._one_at_a_time:
            return self._state or b"" if self._shard is None else self._shard.dump()

    def _open(self, place: Place) -> Shard:
        self._shard = self._new_shard(place)
        if self._state:
            self._shard.load(self._state)
            self._state = None
        return self._shard


@operator
def encode_outputs(
    step_id: str, up: KeyedStream[list[Emission]], note: Callable[[Sequence[Emission]], None] | None = None
) -> KeyedStream[Sequence[Output]]:
    """Encode what the core says into records of the output topics, still by shard; ``note`` sees it."""

    def encoded(emissions: list[Emission]) -> list[Output]:
        if note is not None:
            note(emissions)
        return [encode_emission(emission) for emission in emissions]

    return op.map_value("map_value", up, encoded)


def encode_emission(emission: Emission) -> Output:
    """Return the record for one emission: decisions are keyed by user, outcomes by ad, interests by shard."""
    body = emission.body
    if isinstance(body, Rejected):
        return to_dead_letter(body.record, body.error, body.stage)
    stream, key = _addressed(body)
    return Output(stream, key.encode(), encode(body), emission.partition, emission.offset)


def _addressed(body: Decision | Outcome | Interest) -> tuple[str, str]:
    if isinstance(body, Decision):
        return "decisions", body.user_id
    return ("interests", body.shard) if isinstance(body, Interest) else ("outcomes", body.ad_id)
