"""A Kafka producer that never loses an output silently."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.client import KafkaConfig, opened
from connectors.codec import CONTENT_TYPE
from models.domain.errors import LogError, SettingError
from models.domain.log import Headers, Output

logger = logging.getLogger("impulse.kafka")

ANY_PARTITION = -1
"""librdkafka's name for: let the partitioner choose by key."""
FLUSH_TURN_S = 0.5
"""How long one wait for acknowledgements takes at most: no signal is heard in it."""
QUIET_S = 5.0
"""How long they are waited for without a word."""


class OutputWriter:
    """Writes outputs to the topics of their streams; `flush` returns when all are acknowledged.

    What could not be delivered is raised by every call from then on, but by `close`.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topics: Mapping[str, str],
        linger_ms: float = 2.0,
        delivery_timeout_s: float = 120.0,
    ) -> None:
        self._config, self._topics, self._timeout_s = config, dict(topics), delivery_timeout_s
        self._failed: list[str] = []
        settings: dict[str, Any] = config.producer(linger_ms, delivery_timeout_s)
        settings |= {"on_delivery": self._on_delivery, "error_cb": self._on_client_error}
        self._producer = opened(Producer, config, settings, logger=logger)

    def write(self, outputs: Sequence[Output]) -> None:
        """Hand outputs to the producer; blocks while its queue is full.

        Raises
        ------
        SettingError
            when a stream has no topic.
        LogError
            when an earlier delivery has failed, or the producer refuses one of these.

        """
        for output in outputs:
            self._produce(output)
        self._producer.poll(0)
        self._raise_failed()

    def _produce(self, output: Output) -> None:
        topic = self._topics.get(output.stream)
        if topic is None:
            streams = f"one of {sorted(self._topics)}"
            raise SettingError.expected(
                "output stream", got=output.stream, expected=streams, fix="name its topic"
            )
        partition = ANY_PARTITION if output.partition is None else output.partition
        while True:
            try:
                self._producer.produce(
                    topic, output.value, output.key, partition=partition, headers=[*headers_of(output)]
                )
                return
            except BufferError:
                self._producer.poll(0.05)
                self._raise_failed()
            except KafkaException as error:
                raise LogError(f"{topic}: {self._config.redact(str(error))}") from error

    def resume(self, state: object) -> None:
        """Take in a part's recovery state: there is none that concerns what is written at least once."""

    def snapshot(self) -> None:
        """As `flush`; there is nothing to resume from."""
        self.flush()

    def flush(self) -> None:
        """Wait until every output is acknowledged.

        Raises
        ------
        LogError
            when one of them was not.

        """
        if waiting := self._unacknowledged_after(QUIET_S):
            address = self._config.bootstrap_servers
            logger.warning("kafka at %s: waiting for %d outputs to be acknowledged", address, waiting)
            waiting = self._unacknowledged_after(self._timeout_s)
        self._raise_failed()
        if waiting:
            raise LogError(f"kafka: {waiting} outputs not acknowledged within {self._timeout_s} s")

    def _unacknowledged_after(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while (waiting := self._producer.flush(FLUSH_TURN_S)) and time.monotonic() < deadline:
            pass
        return waiting

    def close(self) -> None:
        """Wait as `flush` does, and log what was not acknowledged; `flush` before, where that must not be.

        A flow is closed while an error passes, too: Bytewax aborts the process where a second one is raised.
        """
        try:
            self.flush()
        except LogError as error:
            logger.error("%s", error)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(
                f"{message.topic()}[{message.partition()}]: {self._config.redact(error.str())}"
            )

    def _on_client_error(self, error: KafkaError) -> None:
        logger.warning("kafka at %s: %s", self._config.bootstrap_servers, self._config.redact(error.str()))

    def _raise_failed(self) -> None:
        if self._failed:
            raise LogError(
                f"{len(self._failed)} outputs not delivered, the first to {self._failed[0]}. Fix: see that "
                "the topics exist (`impulse topics`) and the broker is up; then start again"
            )


def headers_of(output: Output) -> Headers:
    """Return the headers that an output is written with."""
    json = () if output.stream == "dead_letters" else CONTENT_TYPE
    return (*json, *output.headers)
