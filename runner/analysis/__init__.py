"""Static analysis of a project's scripts: imports, tracking URIs, experiments and paths. Nothing is executed."""
