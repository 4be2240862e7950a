"""Everything about a person in one archive."""
