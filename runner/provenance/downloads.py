"""Downloads files that parameters name by URL."""

from pathlib import Path

from runner.errors import ExecutionError
from runner.settings import is_offline

TIMEOUT = 60.0
"""Seconds without data after which a download fails."""


def fetch(url: str, path: Path) -> None:
    """Download a file to ``path``, which appears when the download is complete.

    Raises:
        ExecutionError: it can't be had.
    """
    import shutil
    from urllib.request import urlopen

    if is_offline():
        raise ExecutionError(f"'{url}' is needed, and the network is off", hint="Leave --offline or PROJ_OFFLINE out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with urlopen(url, timeout=TIMEOUT) as answer, partial.open("wb") as file:  # noqa: S310, http(s) only: PathRules
            shutil.copyfileobj(answer, file)
    except (OSError, ValueError) as error:
        partial.unlink(missing_ok=True)
        raise ExecutionError(f"'{url}' can't be downloaded", context=str(error)) from error
    partial.replace(path)
