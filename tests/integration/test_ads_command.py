"""What users send to every partition: `impulse ads`, `impulse policy` and `impulse erase`."""

from __future__ import annotations

import json

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
from models.domain.policy import Exploration, Policy

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


def told(*words, command="ads"):
    done = CliRunner().invoke(app, [command, *words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_ads_come_into_every_partition_and_are_withdrawn_from_it(topic, in_log, tmp_path):
    assert told(saved(tmp_path / "ads.jsonl", *ADS))["ads"] == 3
    assert told("--withdraw", "a1", "--withdraw", "a2")["withdrawn"] == 2
    upsert, withdrawal = in_log()
    assert isinstance(upsert, AdUpsert) and upsert.ads == ADS
    assert isinstance(withdrawal, AdWithdraw) and withdrawal.ad_ids == ("a1", "a2")


def test_a_policy_and_erasures_come_into_every_partition(topic, in_log, tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text("version = 2\nslots = 3\n[exploration]\nrandomized_share = 0.05\n")
    assert told(str(file), command="policy") == {"version": 2, "records": 1}
    assert told("u-7", "u-8", "u-7", command="erase")["users"] == 2
    policy, *forgotten = in_log()
    exploration = Exploration(randomized_share=0.05)
    assert policy.policy == Policy(version=2, slots=3, exploration=exploration)
    assert [type(one) for one in (policy, *forgotten)] == [PolicyChange, Erasure, Erasure]
    assert [one.user_id for one in forgotten] == ["u-7", "u-8"]


def test_a_policy_without_a_version_has_that_of_the_time(topic, in_log, tmp_path):
    (tmp_path / "policy.toml").write_text("slots = 3")
    version = told(str(tmp_path / "policy.toml"), command="policy")["version"]
    (record,) = in_log()
    assert record.policy.version == record.event_time == version


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slot = 3", "slot"),
        ("[exploration]\nrandomised_share = 0.1", r"exploration\.randomised_share"),
        ('[[caps]]\nscope = "ad"\nseconds = 60', r"caps\.seconds"),
        ("slots = 21", "20"),
        ("slots = 20\ncandidates = 10", "at least slots=20"),
    ],
)
def test_a_policy_that_no_flow_would_follow_is_refused_before_it_is_sent(
    topic, in_log, tmp_path, text, message
):
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(SettingError, match=message):
        told(str(tmp_path / "policy.toml"), command="policy")
    assert in_log() == []


@pytest.mark.parametrize("user_id", ["", "u" * 129])
def test_a_user_that_no_event_could_name_is_refused(topic, in_log, user_id):
    with pytest.raises(SettingError, match="user to erase"):
        told(user_id, command="erase")
    assert in_log() == []


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
