"""Entering proj's home: made for its owner alone, and looked at by every command."""

from runner.cli.text import say
from runner.settings import Home, open_home


def enter_home(*, writing: bool = False) -> Home:
    """Return proj's home, made first where a command needs it, and say who else can get in.

    Raises:
        HomeError: it can't be made or used.
    """
    home = open_home()
    if writing:
        home.ensure()
    exposure = home.exposure()
    if exposure is not None:
        say(f"! {exposure.message}", fg="yellow")
        say(f"  hint: {exposure.hint}")
    return home


def warn_of_lost_store(home: Home) -> None:
    """Say that runs are here without a database, before a new one takes its place."""
    count = home.count_runs_without_store()
    if count:
        say(f"! The database of runs is not in {home.root}, but the files of {count} runs are", fg="yellow")
        say("  hint: `proj verify --repair` makes a new one from them")
