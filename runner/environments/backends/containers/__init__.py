"""Environments that are images of a container engine."""
