"""Servers of MLflow's REST protocol: the loopback server of a run, and `proj server`."""
