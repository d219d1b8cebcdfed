"""The wire: bytes to values and back, topics, producers, dead letters and the relay."""
