"""A power loss, simulated: what was not synced to disk is dropped or torn at a moment that chance picks."""
