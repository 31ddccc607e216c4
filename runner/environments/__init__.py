"""Environments: what a project declares, its lock, and the installed prefix."""
