"""Input and output: Kafka, recorded logs, artifacts and the embedded broker."""
