"""The decisions, as plain functions and small classes: no I/O, no clock, no randomness, no framework but polars."""
