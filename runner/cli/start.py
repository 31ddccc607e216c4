"""The program ``proj``: an interrupt while it is loaded ends it without a traceback."""

import sys

INTERRUPTED = 130
"""The exit code of commands that were interrupted: 128 and the number of SIGINT."""

try:
    from runner.cli.main import main
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)

__all__ = ["main"]

if __name__ == "__main__":
    main()
