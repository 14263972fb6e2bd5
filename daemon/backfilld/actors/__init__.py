"""The actors: each a short loop that owns its state and talks only over memory channels."""
