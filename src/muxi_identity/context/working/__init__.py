"""Working memory: what went on lately across a person's sessions."""
