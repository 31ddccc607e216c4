"""Runs copier with restrictions and converts its errors to messages for the user."""

import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import ScaffoldError
from runner.model import Event, EventKind, Report
from runner.scaffold.plain_git import plain_environment
from runner.scaffold.releases import resolution, shelf
from runner.settings import Home

_SECONDS = 30
"""Processor time that a template may take; the built-in ones take a tenth of a second."""
_MEMORY = 2 << 30
PROTOCOLS = {"protocol.allow": "never", "protocol.https.allow": "always", "protocol.ssh.allow": "always"}
LOCAL_ONLY_WHEN_ASKED = {"protocol.file.allow": "user"}
"""A path that the user typed may be cloned; one in a template's ``.gitmodules`` may not."""


@contextmanager
def copier_session(home: Home, report: Report) -> Iterator[None]:
    """Run copier in proj's home without hooks and without the user's trust settings; its errors become ours.

    The environment of this process changes meanwhile, because copier has no other interface for these settings.

    Raises:
        ScaffoldError: copier, git or the template failed.
    """
    from copier.errors import CopierError, CopierWarning, UnsafeTemplateError
    from plumbum import ProcessExecutionError

    with warnings.catch_warnings(record=True) as caught, _environment(_variables(home)), _limits():
        warnings.simplefilter("always")
        try:
            yield
        except KeyboardInterrupt:  # the kind that copier raises at a question is a CopierError, too
            raise
        except ScaffoldError:
            raise
        except MemoryError as error:
            raise ScaffoldError(f"the template takes more than {_MEMORY >> 30} GiB of memory") from error
        except UnsafeTemplateError as error:
            raise _needs_trust(error) from error
        except ProcessExecutionError as error:
            raise ScaffoldError("git failed on the template", context=error.stderr.strip() or str(error)) from error
        except CopierError as error:
            raise ScaffoldError("the template can't be used", context=str(error)) from error
        except Exception as error:  # a template's expressions may raise anything
            raise ScaffoldError("the template can't be used", context=f"{type(error).__name__}: {error}") from error
    for warning in caught:
        if issubclass(warning.category, CopierWarning):
            report(Event(kind=EventKind.WARNING, message=str(warning.message)))


@contextmanager
def _limits() -> Iterator[None]:
    """Limit processor time and memory, as a template can loop for ever; waiting for answers does not count."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return

    def give_up(number: int, frame: object) -> None:
        del number, frame
        raise ScaffoldError(
            f"the template took more than {_SECONDS} seconds of processor time",
            hint="a loop in it does not end, or is very long",
        )

    before = signal.signal(signal.SIGVTALRM, give_up)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
        if soft == resource.RLIM_INFINITY and sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY + _in_use(), hard))
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def _in_use() -> int:
    """Return the size of this process's address space in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _needs_trust(error: Exception) -> ScaffoldError:
    features = str(error).splitlines()[0].partition(": ")[2].rstrip(".")
    return ScaffoldError(
        f"the template wants to run code of its own: {features}",
        context="tasks and migrations are commands, jinja_extensions are Python modules; they run as you",
        hint="read the template, then give --trust",
    )


def _variables(home: Home) -> dict[str, str]:
    folder = shelf(home)
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "copier.yml"
    if not settings.exists():
        settings.write_text("{}\n", encoding="utf-8")  # the user's settings can trust templates without --trust
    variables = {"COPIER_CACHE_DIR": str(folder / "mirrors"), "COPIER_SETTINGS_PATH": str(settings)}
    git_settings = {**PROTOCOLS, **LOCAL_ONLY_WHEN_ASKED, **resolution(home), "core.hooksPath": os.devnull}
    first = int(os.environ.get("GIT_CONFIG_COUNT", "0"))
    for number, (name, value) in enumerate(git_settings.items(), first):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    variables["GIT_CONFIG_COUNT"] = str(first + len(git_settings))
    return variables


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Change the environment temporarily, also in plumbum's copy, which copier passes to git."""
    from plumbum import local

    before, meanwhile = dict(os.environ), plain_environment(variables)
    os.environ.clear()
    os.environ.update(meanwhile)
    try:
        with local.env():
            local.env.clear()
            local.env.update(meanwhile)
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
