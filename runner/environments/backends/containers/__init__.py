"""Fetches and builds container images, and inspects them."""
