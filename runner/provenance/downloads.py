"""Downloads files that parameters name by URL."""

from pathlib import Path

from runner.base.files import replacing
from runner.errors import ExecutionError
from runner.settings import is_offline

TIMEOUT = 60.0
"""Seconds without an answer after which a download is given up."""


def fetch(url: str, path: Path) -> None:
    """Download a file to ``path``, which appears when it is whole.

    Raises:
        ExecutionError: it can't be had.
    """
    import shutil
    from urllib.request import urlopen

    if is_offline():
        raise ExecutionError(f"'{url}' is needed, and the network is off", hint="Leave --offline or PROJ_OFFLINE out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            replacing(path, path.with_name(f".{path.name}.partial")) as partial,
            urlopen(url, timeout=TIMEOUT) as answer,  # noqa: S310  http(s) only: PathRules
            partial.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except (OSError, ValueError) as error:
        raise ExecutionError(f"'{url}' can't be downloaded", context=str(error)) from error
