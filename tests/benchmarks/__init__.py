"""Benchmarks: every figure stands beside a reference measured in the same run, because times on a shared machine mean
little and ratios mean a lot. ``python -m tests.benchmarks`` prints them all; nothing here is a test."""
