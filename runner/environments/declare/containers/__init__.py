"""Readers for Dockerfiles and `docker_env`."""
