from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from connectors.client import KafkaConfig, opened
from models.domain.errors import SettingError

SECRET = "correct horse battery staple"
SECRETS = (
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
)


def secured() -> KafkaConfig:
    return KafkaConfig(
        "broker:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="impulse",
        sasl_password=SECRET,
        ssl_ca_location="/ca.pem",
    )


def test_plain_settings_become_librdkafkas():
    common = secured().common()
    assert common["bootstrap.servers"] == "broker:9093"
    assert common["security.protocol"] == "SASL_SSL"
    assert common["sasl.password"] == SECRET
    assert "ssl.key.location" not in common


def test_no_secret_stands_in_the_repr():
    extra = KafkaConfig("b:1", extra={"ssl.keystore.password": SECRET})
    for config in (secured(), extra, KafkaConfig("b:1", ssl_key_password=SECRET)):
        assert SECRET not in repr(config) and SECRET not in str(config)


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_is_taken_out_of_texts(name):
    config = KafkaConfig.of({"bootstrap.servers": "b:1", name: SECRET})
    assert config.redact(f"login with {SECRET} refused") == "login with *** refused"


def test_a_config_without_secrets_leaves_texts_alone():
    assert KafkaConfig("b:1").redact("login refused") == "login refused"


def test_librdkafkas_settings_become_a_config_that_says_the_same():
    settings = {"bootstrap.servers": "b:1", "sasl.username": "me", "socket.keepalive.enable": True}
    common = KafkaConfig.of(settings).common()
    assert settings.items() <= common.items()


def test_missing_bootstrap_servers_are_refused_with_the_fix():
    with pytest.raises(SettingError, match="Fix: set IMPULSE_KAFKA"):
        KafkaConfig(" ")


def test_an_expired_offset_is_an_error_for_every_consumer():
    assert KafkaConfig("b:1").consumer("g")["auto.offset.reset"] == "error"


def test_no_consumer_stores_or_commits_offsets_on_its_own():
    settings = KafkaConfig("b:1").consumer("g")
    assert not settings["enable.auto.commit"] and not settings["enable.auto.offset.store"]


def test_producers_are_idempotent_and_partition_as_java_clients_do():
    settings = KafkaConfig("b:1").producer(linger_ms=3, delivery_timeout_s=1.5)
    assert settings["enable.idempotence"] and settings["acks"] == "all"
    assert settings["partitioner"] == "murmur2_random"
    assert (settings["linger.ms"], settings["message.timeout.ms"]) == (3, 1500)


def test_extra_settings_win():
    config = KafkaConfig("b:1", extra={"linger.ms": 50, "client.id": "mine"})
    assert config.producer()["linger.ms"] == 50
    assert config.common()["client.id"] == "mine"


def test_settings_of_fetching_reach_consumers_only():
    config = KafkaConfig("b:1", extra={"fetch.wait.max.ms": 3})
    assert config.consumer("g")["fetch.wait.max.ms"] == 3
    assert "fetch.wait.max.ms" not in config.producer() and "fetch.wait.max.ms" not in config.common()


@pytest.mark.parametrize("kind", [Producer, Consumer, AdminClient])
@pytest.mark.parametrize(
    "extra",
    [
        {"no.such.setting": 1},
        {"sasl.mechanism": "NONE", "security.protocol": "SASL_SSL"},
        {"ssl.ca.location": "/no/such/file", "security.protocol": "SSL"},
        {"linger.ms": SECRET, "sasl.password": SECRET},
    ],
)
def test_what_librdkafka_refuses_is_a_wrong_setting_without_its_secrets(kind, extra):
    config = KafkaConfig("b:1", extra=extra)
    with pytest.raises(SettingError, match=r"kafka client: .*Fix: correct `kafka`") as caught:
        opened(kind, config, config.common() | {"group.id": "g"})
    assert SECRET not in str(caught.value)
