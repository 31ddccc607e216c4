"""The tools that build environments: uv, virtualenv, conda, container, local."""
