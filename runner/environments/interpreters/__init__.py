"""The Python interpreters of this machine, and which one an environment uses."""
