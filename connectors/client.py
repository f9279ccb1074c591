"""Settings of a Kafka client: plain values in, librdkafka's configuration out, secrets never shown.

Every client of Impulse is configured here, so that security, partitioner and failure behaviour are the
same for the flow, the broadcaster, the recorder and the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from models.domain.errors import SettingError

_SECRET = re.compile(r"pass|secret|private|pem|token|jaas|oauthbearer.config", re.IGNORECASE)

Client = TypeVar("Client")

_PLAIN = {
    "bootstrap_servers": "bootstrap.servers",
    "client_id": "client.id",
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanism",
    "sasl_username": "sasl.username",
    "sasl_password": "sasl.password",
    "ssl_ca_location": "ssl.ca.location",
    "ssl_certificate_location": "ssl.certificate.location",
    "ssl_key_location": "ssl.key.location",
    "ssl_key_password": "ssl.key.password",
}

_CONSUMERS_OWN = "fetch."
"""How settings of ``extra`` begin that librdkafka takes for consumers only."""


@dataclass(frozen=True)
class KafkaConfig:
    """How to reach a Kafka cluster.

    ``extra`` holds further librdkafka settings by their own names; it wins over the named fields.
    The fields that may hold secrets stay out of ``repr``.
    """

    bootstrap_servers: str
    client_id: str = "impulse"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_ca_location: str | None = None
    ssl_certificate_location: str | None = None
    ssl_key_location: str | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    extra: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.bootstrap_servers.strip():
            raise SettingError.expected(
                "kafka bootstrap servers",
                got=self.bootstrap_servers,
                expected="HOST:PORT[,HOST:PORT...]",
                fix="set IMPULSE_KAFKA__BOOTSTRAP_SERVERS, or start `python -m connectors.embedded_broker`",
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> KafkaConfig:
        """Return the config that says what these librdkafka settings say."""
        fields = {theirs: ours for ours, theirs in _PLAIN.items()}
        named = {fields[name]: value for name, value in settings.items() if name in fields}
        extra = {name: value for name, value in settings.items() if name not in fields}
        return cls(**named, extra=extra)

    def common(self) -> dict[str, Any]:
        """Return the settings that every kind of client shares."""
        named = {theirs: getattr(self, ours) for ours, theirs in _PLAIN.items()}
        quiet = {"log.connection.close": False}
        shared = {name: value for name, value in self.extra.items() if not name.startswith(_CONSUMERS_OWN)}
        return quiet | {k: v for k, v in named.items() if v is not None} | shared

    def consumer(self, group_id: str) -> dict[str, Any]:
        """Return the settings of a consumer with explicit offsets.

        An offset that the broker no longer has is an error (``auto.offset.reset=error``); long polls are
        kept short because the embedded broker never wakes one. No group is ever joined: a session's length
        is how long a consumer that closes waits for a broker that is away.
        """
        return {
            "group.id": group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,
            "fetch.error.backoff.ms": 100,
            "session.timeout.ms": 6000,
            "reconnect.backoff.max.ms": 1000,
        } | {**self.common(), **self.extra}

    def producer(self, linger_ms: float = 2.0, delivery_timeout_s: float = 120.0) -> dict[str, Any]:
        """Return the settings of an idempotent producer that partitions as Java clients do."""
        return {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": linger_ms,
            "message.timeout.ms": int(delivery_timeout_s * 1000),
            "delivery.report.only.error": True,
            "reconnect.backoff.max.ms": 1000,
        } | self.common()

    def redact(self, text: str) -> str:
        """Return the text with every secret of this config replaced by ``***``."""
        settings = self.common()
        for name, value in settings.items():
            if is_secret(name) and (secret := str(value or "")):
                text = text.replace(secret, "***")
        return text


def is_secret(name: str) -> bool:
    """Say whether a setting of librdkafka, by its name, may hold what no message, log or repr may show."""
    return _SECRET.search(name) is not None


def opened(
    kind: Callable[..., Client], config: KafkaConfig, settings: Mapping[str, Any], **options: Any
) -> Client:
    """Return a client of librdkafka with these settings, which ``config`` has made.

    Raises
    ------
    SettingError
        when librdkafka takes one of them for none of its own, or cannot use its value.

    """
    try:
        return kind(dict(settings), **options)
    except KafkaException as error:
        why = config.redact(error.args[0].str().strip())
        raise SettingError(
            f"kafka client: {why}. Fix: correct `kafka` in the settings (`impulse settings` shows them)."
        ) from None
