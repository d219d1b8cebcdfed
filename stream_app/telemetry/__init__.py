"""What the running processes tell: metrics, logs and health."""
