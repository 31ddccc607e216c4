"""Builds environments with uv, virtualenv, conda or a container engine, or uses the local Python."""
