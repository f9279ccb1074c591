from __future__ import annotations

from concurrent.futures import Future

import pytest

from connectors import topics
from connectors.client import KafkaConfig
from connectors.topics import (
    Difference,
    TopicSpec,
    _differences,
    create_topics,
    standard_topics,
    topic_sizes,
)
from models.domain.errors import LogError


def test_the_log_is_never_compacted():
    log = standard_topics()[0]
    assert (log.name, log.settings["cleanup.policy"]) == ("ads.events.v1", "delete")


def test_the_brokers_clock_stamps_the_log():
    assert standard_topics()[0].settings["message.timestamp.type"] == "LogAppendTime"


def test_decisions_have_as_many_partitions_as_the_log():
    log, decisions, *_ = standard_topics(partitions=32)
    assert log.partitions == decisions.partitions == 32


def test_names_and_retention_are_the_callers():
    topics = standard_topics(events="shop.events.v1", retention_days=1)
    assert topics[0].name == "shop.events.v1"
    assert topics[0].settings["retention.ms"] == "86400000"


def test_a_topic_as_specified_differs_in_nothing():
    spec = TopicSpec("t", 4, {"cleanup.policy": "delete"})
    assert _differences(spec, 4, {"cleanup.policy": "delete", "other": "x"}) == []


def test_each_difference_names_what_is_and_what_should_be_and_the_fix():
    spec = TopicSpec("t", 4, {"cleanup.policy": "delete"})
    partitions, policy = _differences(spec, 3, {"cleanup.policy": "compact"})
    assert str(partitions).startswith("t: partitions is 3, expected partitions 4. Fix: ")
    assert "--add-config cleanup.policy=delete" in policy.fix


def test_a_missing_topic_says_so():
    assert str(Difference("t", "partitions", None, "4", "create it")).startswith("t: missing, expected")


def test_an_embedded_broker_gets_all_of_them():
    sizes = topic_sizes(3)
    assert sizes["ads.events.v1"] == sizes["ads.outcomes.v1"] == 3
    assert sizes["ads.interests.v1"] == sizes["ads.events.v1.dlq"] == 1


def test_a_broker_that_does_not_say_whether_it_made_a_topic_is_reported(monkeypatch):
    class Silent:
        def __init__(self, settings):
            self.topics = {}

        def list_topics(self, timeout):
            return self

        def create_topics(self, new):
            return {topic.topic: Future() for topic in new}

    monkeypatch.setattr(topics, "AdminClient", Silent)
    monkeypatch.setattr(topics, "METADATA_TIMEOUT_S", 0.01)
    with pytest.raises(LogError, match=r"topic 't'.*no answer.*Fix: "):
        create_topics(KafkaConfig("b:1"), [TopicSpec("t", 1)])
