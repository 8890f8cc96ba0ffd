"""Measure Sealane beside Channels and the bare limit: `python -m benchmarks`. The method is in README.md."""
