"""Scheduled tasks: what is to be said for a person at a time, and what came of it."""
