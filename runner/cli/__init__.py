"""The command line: options to requests, events to messages, errors to exit codes."""
