"""Checks and repairs of day files that are there already."""
