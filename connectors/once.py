"""Writing each output once, over crashes: what stands in the topics already is left out (`standing`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from connectors.client import KafkaConfig
from connectors.producer import OutputWriter, headers_of
from connectors.standing import Ends, Mark, OutputTopics, Standing, mark_of, with_source
from models.domain.errors import LogError
from models.domain.log import Output

logger = logging.getLogger("impulse.kafka")

STATE_VERSION = 1

SinkState = dict[str, Any]
"""Recovery state of a sink part: ``version``; ``turn``, which grows with each snapshot of the process; the
topics' ``ends``; and what is ``left`` to decide again.
"""

_BEGAN = "outputs.json"


class OnceWriter:
    """An `OutputWriter` whose outputs stand in their topics once, however often the flow is killed.

    Guarantee: once, if the same input gives the same bytes again, one process at a time has the recovery
    store (its lock sees to that on one file system), and each partition of the log is read by one of them.

    All parts of the sink write through it, and those that wrote in an epoch note the same at its end. Of the
    parts' states the one noted last holds: one that had nothing to write keeps an older one.

    Parameters
    ----------
    folder
        The flow's recovery store, in which it is noted where the topics ended before the first output.
    partitions
        The partitions of the log that this process reads; None for all.

    """

    def __init__(
        self,
        writer: OutputWriter,
        config: KafkaConfig,
        topics: Mapping[str, str],
        folder: Path,
        partitions: Sequence[int] | None = None,
    ) -> None:
        self._writer, self._names = writer, dict(topics)
        self._partitions = None if partitions is None else frozenset(partitions)
        self._topics = OutputTopics(config, self._names.values())
        self._began = folder / _BEGAN
        self._resumed = _state(-1, {}, [])
        self._turn = 0
        self._standing: Standing | None = None
        self._ends: Ends = {}
        self._written = False

    def resume(self, state: SinkState | None) -> None:
        """Take in the state of one part of the sink: before anything is written.

        Raises
        ------
        LogError
            for a state of another release, or when Kafka does not answer.

        """
        if state is None:
            state = _state(0, self._beginning(), [])
        if state.get("version") != STATE_VERSION:
            raise LogError.expected(
                "recovery state of the Kafka sink", got=state.get("version"),
                expected=f"version {STATE_VERSION}",
                fix="resume with the release that wrote it, or start from a fresh recovery store",
            )  # fmt: skip
        if state["turn"] > self._resumed["turn"]:
            self._resumed = state

    def _beginning(self) -> Ends:
        """Return where the topics ended when the store was new: a flow may die before its first snapshot."""
        if not self._began.exists():
            part = self._began.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(self._topics.ends()))
            part.replace(self._began)
        try:
            return msgspec.json.decode(self._began.read_bytes(), type=Ends)
        except (OSError, msgspec.DecodeError) as error:
            raise LogError(f"{self._began}: cannot be read: {error}. Fix: restore it from a copy.") from error

    def write(self, outputs: Sequence[Output]) -> None:
        """Hand the producer those outputs that do not stand yet; raises as `OutputWriter.write`."""
        standing = self._look_up()
        named = [output._replace(headers=with_source(output, output.headers)) for output in outputs]
        if standing:
            named = [output for output in named if not self._stands(standing, output)]
        self._written |= bool(named)
        self._writer.write(named)

    def _stands(self, standing: Standing, output: Output) -> bool:
        topic = self._names.get(output.stream, "")
        mark = mark_of(topic, output.key, output.value, headers_of(output))
        return mark is not None and standing.strikes_off(mark)

    def _look_up(self) -> Standing:
        """Return what stands beyond the snapshot; reads the topics at the first call."""
        if self._standing is None:
            self._turn, self._ends = self._resumed["turn"], self._resumed["ends"]
            found = list(self._topics.since(self._ends, self._partitions))
            self._standing = Standing([*map(Mark._make, self._resumed["left"]), *found])
            self._written = bool(found)
            if self._standing:
                logger.info("%d outputs stand already beyond the last snapshot", len(self._standing))
        return self._standing

    def snapshot(self) -> SinkState:
        """Wait until all that was written is acknowledged and return the state to resume from.

        Raises
        ------
        LogError
            when something was not acknowledged, or Kafka does not tell where the topics end.

        """
        standing = self._look_up()
        self._writer.flush()
        if given_up := standing.give_up_passed():
            logger.warning(
                "%d outputs from before a crash were not decided again: settings or release differ, and what "
                "was decided in their stead stands beside them",
                given_up,
            )
        if self._written:
            self._ends, self._written = self._topics.ends(), False
        self._turn += 1
        return _state(self._turn, self._ends, standing.values())

    def close(self) -> None:
        """As `OutputWriter.close`."""
        self._writer.close()


def _state(turn: int, ends: Ends, left: list[tuple[int, int, bytes]]) -> SinkState:
    return {"version": STATE_VERSION, "turn": turn, "ends": ends, "left": left}
