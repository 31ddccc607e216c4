"""Package data-science projects, run them, and tie every result to the exact code that made it."""
