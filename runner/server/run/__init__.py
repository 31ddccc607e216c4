"""The loopback server that the command of a run logs to."""
