"""The lowest layer: general functions that do not depend on runs."""
