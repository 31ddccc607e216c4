"""Draws metric curves in the terminal, as SVG and as PNG, and writes reports of runs as static HTML pages."""
