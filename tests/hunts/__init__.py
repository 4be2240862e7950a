"""Long random runs under faults, each checked by a program afterwards. CONTRIBUTING.md says how to run them long."""
