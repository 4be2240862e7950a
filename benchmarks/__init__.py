"""What `make bench` runs: each path beside its floor, measured in the same run; docs/performance.md explains it."""
