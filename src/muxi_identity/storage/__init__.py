"""The schema, and transactions over it on SQLite and PostgreSQL. Knows no rule about identity."""
