"""One person, many identifiers, one memory."""
