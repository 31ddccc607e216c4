"""What the scripts of a project import, name and log to; nothing of them is executed."""
