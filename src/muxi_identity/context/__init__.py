"""What follows the person: sessions and persistent facts, and the load that brings them together."""
