"""The `conda` backend and the tools that solve and install conda packages."""
