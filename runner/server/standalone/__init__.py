"""The server of `proj server`: tokens, TLS and the rights of its clients."""
