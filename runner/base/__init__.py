"""Small tools that know nothing of runs: the lowest layer of the package."""
