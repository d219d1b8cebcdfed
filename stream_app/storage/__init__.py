"""What lasts: the window log, artifacts, checkpoints, registry, jobs and outbox."""
