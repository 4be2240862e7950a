"""People by the thousand: read from files, linked in batches, handed out again."""
