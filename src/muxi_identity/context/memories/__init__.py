"""Persistent memory: what is known of a person for good."""
