"""Finds the Python interpreters of this machine and chooses one for an environment."""
