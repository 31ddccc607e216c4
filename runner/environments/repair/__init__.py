"""Repairs old projects: names, pins, interpreters and missing declarations."""
