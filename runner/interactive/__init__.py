"""Runs as objects for notebooks and programs: read, started in the background, or opened by the program itself."""
