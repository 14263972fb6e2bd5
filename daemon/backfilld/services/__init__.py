<<<<<<< HEAD
"""Use cases without printing: what a command does, for any surface that wants it."""
=======
"""The use cases: what a command does, as functions that take settings and return values.

They print nothing and read no command line; ``surfaces`` translates between them and people.
"""
>>>>>>> f07172f (Use cases apart from their command lines; a repair moves whole days aside under one lock; a fill's plan is an estimate)
