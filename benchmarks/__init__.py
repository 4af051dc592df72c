"""Figures of docs/performance.md. Each module is one command: `python -m benchmarks.NAME`."""
