"""``proj env``: the environments that are kept: list, show, verify, export, remove."""

import os
import re
import time
from contextlib import closing

import click
import msgspec

from runner.base.checksummed_files import DamagedFileError
from runner.base.files import locked, remove_tree
from runner.cli.home import enter_home
from runner.cli.output import clean, local_time, size
from runner.cli.text import print_lines, say
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
from runner.environments.cache.prefix import CACHE_LOCK, CHECKSUMS
from runner.environments.declare.conda.files import is_conda_lock
from runner.environments.declare.indexes import IndexOptions
from runner.environments.model import EnvironmentRequest, EnvironmentSpec
from runner.environments.resolve.lock_files import check_lock, has_checksum
from runner.environments.resolve.universal import as_standard
from runner.environments.resolve.uv_command import find_uv
from runner.errors import EnvironmentSetupError, NotFoundError, UsageError
from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from runner.store.records import format_time
from runner.store.run_links import runs_by_prefix

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_HEADER = re.compile(r"^# (?:Python (?P<kept>\d+\.\d+)|python: >=(?P<ours>\d+\.\d+))", re.MULTILINE)
_SHOWN_RUNS = 3


@click.group("env")
def env() -> None:
    """Look after the environments that proj keeps and shares between runs."""


@env.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as a JSON list.")
def list_environments(as_json: bool) -> None:
    """List the environments, the last used first, with the runs that used them."""
    home = enter_home()
    prefixes = _with_runs(home, _kept(home))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(prefixes), indent=2))
        return
    for kept in prefixes:
        used = local_time(format_time(int(kept.last_used * 1000)))
        ids = ", ".join(run[:8] for run in kept.runs[-_SHOWN_RUNS:][::-1]) or "no run"
        more = f" and {len(kept.runs) - _SHOWN_RUNS} more" if len(kept.runs) > _SHOWN_RUNS else ""
        what = _what(kept)
        print_lines(f"{kept.name[:8]}  {what:<40}  {size(kept.size):>9}{_own(kept)}  {used}  {ids}{more}")
    environments, cache = disk_use(home.environments, home.root / "cache")
    images = sum(kept.size for kept in prefixes if kept.manager == MANAGER)
    told = f"{len(prefixes)} environments on {size(environments)} of disk; the cache of packages has {size(cache)} more"
    say(f"{told}, images {size(images)}" if images else told)


@env.command("show")
@click.argument("word", metavar="ENV")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(word: str, as_json: bool) -> None:
    """Show one environment with its packages."""
    home = enter_home()
    named = [kept for kept in _kept(home) if kept.name.startswith(word)]
    (kept,) = _with_runs(home, (named[0] if len(named) == 1 else find_prefix(home, word),))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(kept), indent=2))
        return
    rows = {
        "environment": kept.name,
        "what": _what(kept),
        "path": kept.path,
        "digest": kept.digest or "",
        "size": f"{size(kept.size)}, of which {size(kept.own_size)} is not shared",
        "last used": local_time(format_time(int(kept.last_used * 1000))),
        "runs": ", ".join(run[:8] for run in kept.runs) or "none",
    }
    for name, value in rows.items():
        print_lines(f"{name + ':':13}{clean(value)}")
    for name, version in kept.packages:
        print_lines(f"  {clean(name)} {clean(version)}")


@env.command("verify")
@click.argument("word", metavar="[ENV]", default="")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as a JSON list.")
def verify_environments(word: str, as_json: bool) -> int:
    """Read every file of ENV, or of all environments and locks, and prove it by its digest; 1 when it changed."""
    home = enter_home()
    chosen = (find_prefix(home, word),) if word else cached_environments(home)
    looked = [verify(home, kept) for kept in chosen]
    verdicts = [verdict for verdict in looked if verdict]
    # Those that were removed meanwhile are no damage.
    locks = () if word else tuple(verify_locks(home, repair=False, progress=lambda _done, _all: None))
    verdicts += [Verification(name=found.name, damage=Damage(changed=(found.problem,))) for found in locks]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(verdicts), indent=2))
    for verdict in () if as_json else verdicts:
        told = "whole" if verdict.is_whole else f"changed: {clean(verdict.damage.describe())}"
        name = verdict.name if "/" in verdict.name else verdict.name[:8]
        published = f" (as published, {', '.join(verdict.differing)} differ from their RECORD)"
        print_lines(f"{clean(name)}  {told}{published if verdict.differing and verdict.is_whole else ''}")
    damaged = sum(not verdict.is_whole for verdict in verdicts) - len(locks)
    rebuilt = "; the next run builds them again" if damaged else ""
    say(f"{len(verdicts) - len(locks)} environments, {damaged} changed{rebuilt}")
    if locks:
        say(f"{len(locks)} lock files are damaged; the next run that needs one resolves again")
    return 1 if damaged or locks else 0


@env.command("prune")
@click.option("--older-than", "age", metavar="AGE", help="Those last used longer ago than this: 12h, 30d, 8w.")
@click.option("--keep-size", "room", metavar="SIZE", help="The longest unused, until the rest fits in 500M, 20G.")
@click.option("--cache", is_flag=True, help="Empty the cache of packages as well.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def prune_environments(age: str | None, room: str | None, cache: bool, yes: bool) -> None:
    """Remove environments; one that a run uses stays. Runs that need one again build it from their lock."""
    if age is None and room is None and not cache:
        raise UsageError("Nothing to remove is named", hint="Say --older-than 30d, --keep-size 20G or --cache.")
    home = enter_home()
    before = None if age is None else time.time() - _number(age, _SECONDS, "age", "30m, 12h, 30d or 8w")
    keep = None if room is None else _number(room.rstrip("bB"), _BYTES, "size", "500M or 20G")
    chosen = choose_to_prune(_kept(home), before, keep)
    for kept in () if yes else chosen:
        say(f"{kept.name[:8]}  {_what(kept)}  {size(kept.size)}")
    if chosen and not yes:
        click.confirm(f"Remove {len(chosen)} environments?", abort=True, err=True)
    freed = 0
    for kept in chosen:
        gone = remove_image(home, kept) if kept.manager == MANAGER else prune(home, kept)
        if gone is None:
            say(f"{kept.name[:8]} is in use and stays")
            continue
        freed += gone
        click.echo(kept.name)
    freed += _empty_cache(home) if cache else 0
    rest = "" if cache else "; files that the cache of packages has too are freed by --cache"
    say(f"{size(freed)} freed{rest}")


@env.command("export")
@click.argument("word", metavar="RUN|ENV")
@click.option(
    "--format", "form", type=click.Choice(["requirements", "pylock", "conda-lock"]), help="[default: as it is kept]"
)
def export(word: str, form: str | None) -> None:
    """Print the lock of a run or of an environment."""
    home = enter_home()
    text = _lock_text(home, word)
    is_conda = is_conda_lock(text)
    if form == "pylock" and not is_conda:
        match = _HEADER.search(text)
        python = (match["kept"] or match["ours"]) if match else "3.10"
        text = as_standard(EnvironmentRequest(spec=EnvironmentSpec(), home=home), text, python) + "\n"
    elif form and is_conda is not (form == "conda-lock"):
        has = "conda packages" if is_conda else "packages of the Python index"
        raise UsageError(f"This lock is one of {has} and can't be written as {form}")
    click.echo(text, nl=False)


def _lock_text(home: Home, word: str) -> str:
    """Return the lock of a run, or else that of an environment."""
    try:
        with closing(Database.open_to_read(home.database)) as database:
            run_id = runs.resolve(database, word)
    except NotFoundError:
        return lock_of(home, find_prefix(home, word))
    lock = home.lock(run_id)
    if lock is None:
        raise EnvironmentSetupError(
            f"The run {run_id[:8]} has no lock", hint="It ran in an environment that was there."
        )
    data = lock.read_bytes()
    try:
        if has_checksum(data):
            check_lock(lock, data, None)
        return data.decode()
    except (DamagedFileError, UnicodeDecodeError) as error:
        raise EnvironmentSetupError(f"The lock of the run {run_id[:8]} is damaged", context=str(error)) from None


def _kept(home: Home) -> tuple[CachedEnvironment, ...]:
    """Return all that is kept, images of containers too, the last used first."""
    return tuple(sorted((*cached_environments(home), *built_images(home)), key=lambda kept: -kept.last_used))


def _with_runs(home: Home, prefixes: tuple[CachedEnvironment, ...]) -> tuple[CachedEnvironment, ...]:
    if not home.database.exists():
        return prefixes
    with closing(Database.open_to_read(home.database)) as database:
        used = runs_by_prefix(database)
    return tuple(with_runs(kept, used) for kept in prefixes)


def _what(kept: CachedEnvironment) -> str:
    if not kept.is_whole:
        return "not finished"
    if kept.manager == MANAGER:
        return f"image {kept.path}"
    python = f"Python {kept.python}" if kept.python else "a project's own"
    return f"{kept.manager}, {python}, {len(kept.packages)} packages"


def _own(kept: CachedEnvironment) -> str:
    """Say how much of an environment no other one and no cache has."""
    is_told = kept.manager != MANAGER and kept.own_size < kept.size
    return f" ({size(kept.own_size):>8} its own)" if is_told else ""


def _number(text: str, units: dict[str, int], what: str, example: str) -> int:
    match = re.fullmatch(r"(\d{1,9})\s*([a-z])", text.strip().lower())
    if match is None or match[2] not in units:
        raise UsageError(f"'{clean(text)}' is no {what}", hint=f"Write {example}.")
    return int(match[1]) * units[match[2]]


def _empty_cache(home: Home) -> int:
    before = sum(disk_use(home.environments, home.root / "cache"))
    with locked(home.root / "cache" / CACHE_LOCK):  # nobody installs from it
        find_uv(home, IndexOptions(), os.environ).run("cache", "clean")
    remove_tree(home.root / "cache" / CHECKSUMS)  # they are about files of the cache
    return before - sum(disk_use(home.environments, home.root / "cache"))
