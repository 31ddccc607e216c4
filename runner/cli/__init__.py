"""Words of the user to requests, events to text, errors to exit codes."""
