"""Full retrains, each in a process of its own."""
