"""Readers for conda's environment files."""
