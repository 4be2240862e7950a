"""Credentials: encrypted at rest, shown by a preview, handed out by name."""
