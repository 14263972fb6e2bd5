"""Use cases without printing: what a command does, for any surface that wants it."""
