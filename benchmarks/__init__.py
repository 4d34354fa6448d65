"""Benchmarks that anyone can run: `make bench` runs them all, `python -m benchmarks.NAME` one; none asserts."""
