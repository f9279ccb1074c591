"""The pure core of Impulse: no Kafka, no Bytewax, no clock, no I/O."""
