"""Sessions: one conversation in one channel, with its messages and its context."""
