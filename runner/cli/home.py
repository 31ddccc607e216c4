"""Opens proj's home for commands, with warnings about its permissions and a missing database."""

from runner import settings
from runner.base.plurals import counted
from runner.cli.text import print_warning
from runner.settings import Home


def enter_home(*, writing: bool = False) -> Home:
    """Return proj's home, created first if ``writing``; print a warning if other users can access it.

    Raises:
        HomeError: the home can't be created or used.
    """
    return settings.enter_home(_warn, writing=writing)


def _warn(exposure: settings.Exposure) -> None:
    print_warning(exposure.message, exposure.hint)


def warn_of_lost_store(home: Home) -> None:
    """Print a warning if the home has files of runs and no database, before an empty database is created."""
    count = home.count_runs_without_store()
    if count:
        print_warning(
            f"The database is missing in {home.root}, which has the files of {counted(count, 'run')}",
            "`proj verify --repair` rebuilds the database from these files",
        )
