"""The standalone server, `proj server`: tokens, TLS and the permissions of clients."""
