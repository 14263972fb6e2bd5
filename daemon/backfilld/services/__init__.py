"""The use cases: what a command does, as functions that take settings and return values.

They print nothing and read no command line; ``surfaces`` translates between them and people.
"""
