"""Writing and reading topics in tests, without the code under test where it matters."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from connectors.client import KafkaConfig


def produce(config: KafkaConfig, topic: str, values: Iterable[bytes], keys: int = 100) -> int:
    """Write values in turn under ``keys`` different keys and return how many there were."""
    producer = Producer(config.producer())
    count = 0
    for count, value in enumerate(values, start=1):
        producer.produce(topic, value, b"user-%d" % (count % keys))
        if count % 1000 == 0:
            producer.poll(0.01)
    assert producer.flush(30) == 0
    return count


def read_all(config: KafkaConfig, topic: str) -> list[Message]:
    """Return everything that a topic holds now, partition after partition."""
    consumer = Consumer(config.consumer("test-reader") | {"isolation.level": "read_committed"})
    found = []
    for partition in sorted(consumer.list_topics(topic, 15).topics[topic].partitions):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), 15)
        consumer.assign([TopicPartition(topic, partition, low)])
        while low < high:
            message = consumer.poll(15)
            assert message is not None and message.error() is None, f"{topic}[{partition}] at {low} of {high}"
            found.append(message)
            low = message.offset() + 1
    consumer.close()
    return found
