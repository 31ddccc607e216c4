"""The trial on public projects; it needs their repositories and a package index, so tests and CI leave it alone."""
