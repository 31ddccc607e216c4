"""Keeps environments on disk: builds them once, verifies them before each use, leases and removes them."""
