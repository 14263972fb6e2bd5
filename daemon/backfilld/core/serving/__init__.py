"""Decisions of the local endpoint: what a request asks, what is provably stored, and the text of the answer."""
