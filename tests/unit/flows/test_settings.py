"""What settings are refused, and that no message shows a secret."""

from __future__ import annotations

import json

import orjson
import pytest

from flows.setting_names import FILE_VARIABLE
from flows.settings import Kafka, Settings, load_settings
from models.domain.errors import SettingError


@pytest.fixture
def refusal(monkeypatch, tmp_path):
    """Return what is said of variables, or of a settings file."""

    def refusal(text: str = "", **variables: str) -> str:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        if text:
            (tmp_path / "settings.toml").write_text(text)
            monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "settings.toml"))
        with pytest.raises(SettingError) as caught:
            load_settings()
        return str(caught.value)

    return refusal


@pytest.mark.parametrize(
    "text",
    [
        '[kafka]\nsasl_pass = "hunter2"',
        '[kafka.sasl]\npassword = "hunter2"',
        '[kafkaa]\nsasl_password = "hunter2"',
        'sasl_pass = "hunter2"',
        'kafka = "hunter2"',
        "[kafka]\nssl_key_location = ['hunter2']",
        '[kafka]\nextra = ["x", "hunter2"]',
        '[kafka.extra]\n"sasl.password" = ["hunter2"]',
    ],
)
def test_a_mistake_in_a_file_shows_no_value_that_may_be_a_secret(refusal, text):
    said = refusal(text)
    assert "hunter2" not in said and "Fix: " in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMPULSE_KAFKA__EXTRA", '["x", "hunter2"]'),
        ("IMPULSE_KAFKA__EXTRA", '{"sasl.password": hunter2}'),
        ("IMPULSE_KAFKA", '{"sasl_password": hunter2}'),
        ("IMPULSE_KAFKA__SASL_PASWORD", "hunter2"),
    ],
)
def test_a_mistake_in_a_variable_names_it_and_shows_no_value(refusal, name, value):
    said = refusal(**{name: value})
    assert name in said and "hunter2" not in said


def test_what_is_no_secret_is_shown(refusal):
    assert "got 'TLS'" in refusal(IMPULSE_KAFKA__SECURITY_PROTOCOL="TLS")
    assert "got '0'" in refusal(IMPULSE_BATCH_SIZE="0")


def test_the_settings_that_are_shown_hide_secrets_of_librdkafka():
    extra = {
        "sasl.oauthbearer.client.secret": "hunter2",
        "ssl.key.pem": "hunter2",
        "sasl.oauthbearer.config": "hunter2",
        "linger.ms": 5,
    }
    settings = Settings(kafka=Kafka(extra=extra))
    shown = orjson.loads(settings.model_dump_json())["kafka"]["extra"]
    assert shown["linger.ms"] == 5 and "hunter2" not in json.dumps(shown) + repr(settings)
    assert settings.kafka.config().extra == extra, "the clients get them"


def test_a_variable_that_names_no_setting_is_refused_with_the_nearest_name(refusal):
    said = refusal(IMPULSE_RECOVRY="/x")
    assert "IMPULSE_RECOVRY: names no setting. Did you mean IMPULSE_RECOVERY?" in said


def test_a_setting_of_a_file_that_does_not_exist_is_refused_with_the_nearest_name(refusal):
    assert "Did you mean bounds.slices?" in refusal("[bounds]\nslice = 3")


def test_variables_that_are_not_for_the_settings_are_left_alone(monkeypatch):
    kubernetes = {
        "IMPULSE_SERVICE_HOST": "10.0.0.1",
        "IMPULSE_RUN_SERVICE_PORT_METRICS": "9464",
        "IMPULSE_RUN_PORT": "tcp://10.0.0.1:9464",
        "IMPULSE_RUN_PORT_9464_TCP_ADDR": "10.0.0.1",
    }
    for name, value in kubernetes.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IMPULSE_TEST_ANYTHING", "x")
    monkeypatch.setenv("IMPULSE_KAFKA__EXTRA__linger.ms", "5")
    assert load_settings().kafka.extra == {"linger.ms": "5"}


@pytest.mark.parametrize("value", ["[]", "[1, 1]", "[-1]"])
def test_a_process_reads_one_partition_or_more_each_once(refusal, value):
    assert "IMPULSE_PARTITIONS" in refusal(IMPULSE_PARTITIONS=value)


@pytest.mark.parametrize("value", ["[1, 2, 3, 4, 5]", "[0, 0]", "[1, -1]"])
def test_a_pacing_plan_is_checked_before_the_start(refusal, value):
    assert "24 or 96 weights" in refusal(IMPULSE_PACING_PLAN=value)


@pytest.mark.parametrize("name", ["IMPULSE_PACING_PLAN", "IMPULSE_BOUNDS"])
def test_a_variable_that_is_no_json_is_named(refusal, name):
    assert f"environment variable {name}: got no JSON" in refusal(**{name: "{"})


def test_a_list_of_partitions_that_is_no_json_is_refused_with_one_that_is(refusal):
    said = refusal(IMPULSE_PARTITIONS="0,1")
    assert "IMPULSE_PARTITIONS: got no JSON, expected a value such as [1, 2]" in said


def test_a_file_that_is_no_toml_is_named(refusal, tmp_path):
    assert f"settings file {tmp_path / 'settings.toml'}: " in refusal("[")


def test_one_topic_for_two_purposes_is_refused(refusal):
    """Dead letters among the events would be refused as events, for ever."""
    said = refusal(IMPULSE_TOPICS__DEAD_LETTERS="ads.events.v1")
    assert "setting topics: " in said and "'ads.events.v1' is that of events and dead_letters" in said
