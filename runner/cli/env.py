"""``proj env``: lists, shows, verifies, exports and removes cached environments."""

import os
import re
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from runner.base.checksummed_files import DamagedFileError
from runner.base.files import remove_tree
from runner.base.lazy import LazyModule
from runner.base.locks import locked
from runner.base.plurals import counted
from runner.cli.groups import CommandGroup
from runner.cli.home import enter_home
from runner.cli.options import OFFLINE, PROJECT, read_age
from runner.cli.output import local_time, size
from runner.cli.text import print_lines, print_message, printable
from runner.environments.backends.containers.built import MANAGER, built_images, remove_image
from runner.environments.cache.environments import (
    CachedEnvironment,
    Verification,
    cached_environments,
    choose_to_prune,
    disk_use,
    find_prefix,
    lock_of,
    prune,
    verify,
    with_runs,
)
from runner.environments.cache.file_manifest import Damage
from runner.environments.cache.home_check import verify_locks
from runner.environments.cache.lock_files import check_lock, has_checksum
from runner.environments.cache.prefix import CACHE_LOCK, CHECKSUMS
from runner.environments.declare.conda.files import is_conda_lock
from runner.environments.declare.indexes import IndexOptions
from runner.environments.model import EnvironmentRequest
from runner.environments.resolve.universal import as_standard
from runner.environments.resolve.uv_command import find_uv
from runner.environments.specs import NoSpec
from runner.errors import EnvironmentSetupError, NotFoundError, UsageError
from runner.settings import Home
from runner.store import runs as stored_runs
from runner.store.database import Database
from runner.store.records import format_time
from runner.store.run_selection import resolve

if TYPE_CHECKING:
    from runner.cli import environment_use
else:
    environment_use = LazyModule("runner.cli.environment_use")

_BYTES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_HEADER = re.compile(r"^# (?:Python (?P<stored>\d+\.\d+)|python: >=(?P<ours>\d+\.\d+))", re.MULTILINE)
_SHOWN_RUNS = 3


@click.group("env", cls=CommandGroup)
def env() -> None:
    """Manage the cached environments, which runs share."""


@env.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as a JSON list.")
def list_environments(as_json: bool) -> None:
    """List the environments, the last used first, with the latest runs that used them.

    \b
    Examples:
      proj env list
    """  # noqa: D301  # click reads the control character
    home = enter_home()
    prefixes = _with_runs(home, _all_environments(home))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(prefixes), indent=2))
        return
    for cached in prefixes:
        used = local_time(format_time(int(cached.last_used * 1000)))
        ids = ", ".join(run[:8] for run in cached.runs[-_SHOWN_RUNS:][::-1]) or "no run"
        more = f" and {len(cached.runs) - _SHOWN_RUNS} more" if len(cached.runs) > _SHOWN_RUNS else ""
        what = _description(cached)
        print_lines(
            f"{cached.name[:8]}  {what:<40}  {size(cached.size):>9}{_unshared_size(cached)}  {used}  {ids}{more}"
        )
    environments, cache = disk_use(home.environments, home.root / "cache")
    images = sum(cached.size for cached in prefixes if cached.manager == MANAGER)
    total = f"{counted(len(prefixes), 'environment')}: {size(environments)} of disk; package cache: {size(cache)} more"
    print_message(f"{total}, images {size(images)}" if images else total)


@env.command("path")
@PROJECT
@click.option("-e", "--entry-point", metavar="NAME", help="Use the environment of this entry point.")
@click.option("--python", "wants_python", is_flag=True, help="Print the path of the interpreter.")
@click.option("--json", "as_json", is_flag=True, help="Print paths, versions and variables as JSON.")
@OFFLINE
def path(folder: Path | None, entry_point: str | None, wants_python: bool, as_json: bool) -> None:
    """Print the folder of the environment that runs of a project use now; it is built first if it is missing.

    An editor gets the interpreter from it. The path is another one as soon as the environment changes.

    \b
    Examples:
      proj env path
      proj env path --python
    """  # noqa: D301  # click reads the control character
    found = environment_use.open_environment(folder, entry_point, None)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(environment_use.describe(found)), indent=2))
        return
    where = found.python if wants_python else found.prepared.record.prefix
    if where is None:
        raise EnvironmentSetupError("The environment of this project has no Python")
    click.echo(str(where))


@env.command("show")
@click.argument("identifier", metavar="ENV")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(identifier: str, as_json: bool) -> None:
    """Show one environment with its packages.

    \b
    Examples:
      proj env show 3f2a
    """  # noqa: D301  # click reads the control character
    home = enter_home()
    named = [cached for cached in _all_environments(home) if cached.name.startswith(identifier)]
    (cached,) = _with_runs(home, (named[0] if len(named) == 1 else find_prefix(home, identifier),))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(cached), indent=2))
        return
    rows = {
        "environment": cached.name,
        "kind": _description(cached),
        "path": cached.path,
        "digest": cached.digest or "",
        "size": f"{size(cached.size)}, of which {size(cached.own_size)} is not shared",
        "last used": local_time(format_time(int(cached.last_used * 1000))),
        "runs": ", ".join(run[:8] for run in cached.runs) or "none",
    }
    for name, value in rows.items():
        print_lines(f"{name + ':':13}{printable(value)}")
    for name, version in cached.packages:
        print_lines(f"  {printable(name)} {printable(version)}")


@env.command("verify")
@click.argument("identifier", metavar="[ENV]", default="")
@click.option("--json", "as_json", is_flag=True, help="Print the results as a JSON list.")
def verify_environments(identifier: str, as_json: bool) -> int:
    """Verify every file of ENV, or of all environments and locks, by its digest; exit code 1 if a file changed.

    \b
    Examples:
      proj env verify
    """  # noqa: D301  # click reads the control character
    home = enter_home()
    chosen = (find_prefix(home, identifier),) if identifier else cached_environments(home)
    # `verify` returns None for an environment that was removed in the meantime.
    verdicts = [verdict for verdict in (verify(home, cached) for cached in chosen) if verdict]
    locks = () if identifier else tuple(verify_locks(home, repair=False, progress=lambda _done, _all: None))
    verdicts += [Verification(name=found.name, damage=Damage(changed=(found.problem,))) for found in locks]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(verdicts), indent=2))
    for verdict in () if as_json else verdicts:
        result = "unchanged" if verdict.is_whole else f"changed: {printable(verdict.damage.describe())}"
        name = verdict.name if "/" in verdict.name else verdict.name[:8]
        published = f" (as published, {', '.join(verdict.differing)} differ from their RECORD)"
        print_lines(f"{printable(name)}  {result}{published if verdict.differing and verdict.is_whole else ''}")
    damaged = sum(not verdict.is_whole for verdict in verdicts) - len(locks)
    rebuilt = "; the next run builds them again" if damaged else ""
    print_message(f"{counted(len(verdicts) - len(locks), 'environment')}, {damaged} changed{rebuilt}")
    if locks:
        print_message(f"{counted(len(locks), 'damaged lock file')}; the next run that needs one resolves again")
    return 1 if damaged or locks else 0


@env.command("prune")
@click.option("--older-than", "age", metavar="AGE", help="Remove those not used for this time: 12h, 30d, 8w.")
@click.option("--keep-size", "limit", metavar="SIZE", help="Remove the longest unused until the rest fits: 500M, 20G.")
@click.option("--cache", is_flag=True, help="Empty the package cache too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
def prune_environments(age: str | None, limit: str | None, cache: bool, yes: bool) -> None:
    """Remove environments that no process is using. A run that needs one again builds it from its lock.

    \b
    Examples:
      proj env prune --older-than 30d
    """  # noqa: D301  # click reads the control character
    if age is None and limit is None and not cache:
        hint = "Give --older-than 30d, --keep-size 20G or --cache."
        raise UsageError("No environments to remove are given", hint=hint)
    home = enter_home()
    before = None if age is None else time.time() - read_age(age)
    keep = None if limit is None else _bytes(limit)
    chosen = choose_to_prune(_all_environments(home), before, keep)
    for cached in () if yes else chosen:
        print_message(f"{cached.name[:8]}  {_description(cached)}  {size(cached.size)}")
    if chosen and not yes:
        click.confirm(f"Remove {counted(len(chosen), 'environment')}?", abort=True, err=True)
    freed = 0
    for cached in chosen:
        gone = remove_image(home, cached) if cached.manager == MANAGER else prune(home, cached)
        if gone is None:
            print_message(f"{cached.name[:8]} is in use and was not removed")
            continue
        freed += gone
        click.echo(cached.name)
    freed += _empty_cache(home) if cache else 0
    rest = "" if cache else "; --cache also frees the files shared with the package cache"
    print_message(f"{size(freed)} freed{rest}")


@env.command("export")
@click.argument("identifier", metavar="RUN|ENV")
@click.option(
    "--format", "form", type=click.Choice(["requirements", "pylock", "conda-lock"]), help="[default: the stored format]"
)
def export(identifier: str, form: str | None) -> None:
    """Print the lock of a run or of an environment.

    \b
    Examples:
      proj env export latest
    """  # noqa: D301  # click reads the control character
    home = enter_home()
    text = _lock_text(home, identifier)
    is_conda = is_conda_lock(text)
    if form == "pylock" and not is_conda:
        match = _HEADER.search(text)
        python = (match["stored"] or match["ours"]) if match else "3.10"
        text = as_standard(EnvironmentRequest(spec=NoSpec(), home=home), text, python) + "\n"
    elif form and is_conda is not (form == "conda-lock"):
        content = "conda packages" if is_conda else "Python packages"
        raise UsageError(f"This is a lock of {content}, which can't be written as {form}")
    click.echo(text, nl=False)


def _lock_text(home: Home, identifier: str) -> str:
    """Return the lock of a run or of an environment."""
    try:
        with closing(Database.open_to_read(home.database)) as database:
            run_id = resolve(database, identifier, print_message)
    except NotFoundError:
        return lock_of(home, find_prefix(home, identifier))
    lock = home.lock(run_id)
    if lock is None:
        raise EnvironmentSetupError(f"The run {run_id[:8]} has no lock", hint="It ran in an existing environment.")
    data = lock.read_bytes()
    try:
        if has_checksum(data):
            check_lock(lock, data, None)
        return data.decode()
    except (DamagedFileError, UnicodeDecodeError) as error:
        raise EnvironmentSetupError(f"The lock of the run {run_id[:8]} is damaged", context=str(error)) from None


def _all_environments(home: Home) -> tuple[CachedEnvironment, ...]:
    """Return all cached environments and container images, the last used first."""
    return tuple(sorted((*cached_environments(home), *built_images(home)), key=lambda cached: -cached.last_used))


def _with_runs(home: Home, prefixes: tuple[CachedEnvironment, ...]) -> tuple[CachedEnvironment, ...]:
    if not home.database.exists():
        return prefixes
    with closing(Database.open_to_read(home.database)) as database:
        used = stored_runs.by_prefix(database)
    return tuple(with_runs(cached, used) for cached in prefixes)


def _description(cached: CachedEnvironment) -> str:
    if not cached.is_whole:
        return "incomplete"
    if cached.manager == MANAGER:
        return f"image {cached.path}"
    python = f"Python {cached.python}" if cached.python else "a project's own"
    return f"{cached.manager}, {python}, {counted(len(cached.packages), 'package')}"


def _unshared_size(cached: CachedEnvironment) -> str:
    """Return the size of the files that an environment does not share; empty if it shares none."""
    shares_files = cached.manager != MANAGER and cached.own_size < cached.size
    return f" ({size(cached.own_size):>8} unshared)" if shares_files else ""


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})\s*([kmgt])b?", text.strip().lower())
    if match is None:
        raise UsageError(f"'{printable(text)}' is not a valid size", hint="Examples: 500M or 20G.")
    return int(match[1]) * _BYTES[match[2]]


def _empty_cache(home: Home) -> int:
    before = sum(disk_use(home.environments, home.root / "cache"))
    with locked(home.root / "cache" / CACHE_LOCK):  # no process installs from the cache meanwhile
        find_uv(home, IndexOptions(), os.environ).run("cache", "clean")
    remove_tree(home.root / "cache" / CHECKSUMS)  # of the removed files
    return before - sum(disk_use(home.environments, home.root / "cache"))
