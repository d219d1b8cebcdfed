"""Continuous learning on Kafka: a fenced window log, and everything else a deterministic fold over it."""

__version__ = "0.1.0"
