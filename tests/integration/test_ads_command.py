"""What users send to every partition: `impulse ads`, and policies and erasures as the README has it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from support.kafka_io import read_all
from typer.testing import CliRunner

from connectors.artifacts import ArtifactStore
from connectors.catalogues import stored_ads
from connectors.client import KafkaConfig
from connectors.codec import EventCodec
from flows.cli import app
from models.domain.catalogue import Ad
from models.domain.errors import BadRecord, LogError, SettingError
from models.domain.events import AdUpsert, AdWithdraw, CatalogueSnapshot, Erasure, PolicyChange
from models.domain.log import LogRecord
from models.domain.policy import Policy

README = Path(__file__).parents[2] / "README.md"
ADS = tuple(Ad(ad_id=f"a{n}", campaign_id="c", title=f"Ad {n}") for n in range(3))


@pytest.fixture
def topic(embedded_broker, embedded_topic, monkeypatch, tmp_path):
    """A log of two partitions that the settings name."""
    name = embedded_topic(2)
    monkeypatch.setenv("IMPULSE_KAFKA__BOOTSTRAP_SERVERS", embedded_broker.bootstrap)
    monkeypatch.setenv("IMPULSE_TOPICS__EVENTS", name)
    monkeypatch.setenv("IMPULSE_ARTIFACTS", str(tmp_path / "artifacts"))
    return name


@pytest.fixture
def in_log(embedded_broker, topic):
    """Return the records of both partitions, which must be equal."""

    def read():
        codec, found = EventCodec(), read_all(KafkaConfig(embedded_broker.bootstrap), topic)
        first, second = ([m.value() for m in found if m.partition() == p] for p in (0, 1))
        assert first == second
        return [codec.decode(LogRecord(topic, 0, n, 0, None, value)) for n, value in enumerate(first)]

    return read


def saved(file, *ads):
    file.write_bytes(b"".join(msgspec.json.encode(ad) + b"\n" for ad in ads))
    return str(file)


def told(*words):
    done = CliRunner().invoke(app, ["ads", *words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_ads_come_into_every_partition_and_are_withdrawn_from_it(topic, in_log, tmp_path):
    assert told(saved(tmp_path / "ads.jsonl", *ADS))["ads"] == 3
    assert told("--withdraw", "a1", "--withdraw", "a2")["withdrawn"] == 2
    upsert, withdrawal = in_log()
    assert isinstance(upsert, AdUpsert) and upsert.ads == ADS
    assert isinstance(withdrawal, AdWithdraw) and withdrawal.ad_ids == ("a1", "a2")


def test_a_policy_and_an_erasure_come_into_every_partition_by_what_the_readme_says(topic, in_log):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (example,) = [code for code in examples if "Broadcaster" in code]
    exec(example, {})
    policy, erasure = in_log()
    assert isinstance(policy, PolicyChange) and policy.policy == Policy(version=2, slots=3)
    assert isinstance(erasure, Erasure) and erasure.user_id == "u-7"


def test_a_whole_catalogue_goes_by_reference_to_an_artifact(topic, in_log, tmp_path):
    assert told(saved(tmp_path / "ads.jsonl", *ADS), "--replace")["replaced"] is True
    (record,) = in_log()
    assert isinstance(record, CatalogueSnapshot)
    assert stored_ads(ArtifactStore(tmp_path / "artifacts"), record.artifact) == ADS


def test_sent_again_the_same_file_counts_as_new_since_something_else_may_have_been_sent_between(
    topic, in_log, tmp_path
):
    for _ in range(2):
        told(saved(tmp_path / "ads.jsonl", *ADS))
    first, second = in_log()
    assert first.ads == second.ads and first.id != second.id


@pytest.mark.parametrize(
    ("ads", "options", "error", "says"),
    [
        ((ADS[0], ADS[0]), (), LogError, "write each ad once"),
        ((), (), LogError, "at least one"),
        ((Ad(ad_id="a", campaign_id="c", targeting="segment =="),), (), BadRecord, "targeting"),
        (ADS, ("--replace", "--withdraw", "a0"), SettingError, "--replace with a file alone"),
    ],
)
def test_what_the_flow_would_refuse_is_refused_before_anything_is_sent(
    topic, in_log, tmp_path, ads, options, error, says
):
    with pytest.raises(error, match=says):
        told(saved(tmp_path / "ads.jsonl", *ads), *options)
    assert in_log() == []


def test_nothing_to_send_is_an_error(topic):
    with pytest.raises(SettingError, match="ads to send"):
        told()
