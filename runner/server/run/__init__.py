"""The loopback server that a run's own command talks to."""
