"""Reads and writes ``conda-lock.yml`` version 1 with conda-lock's models, in a process of its own.

It is separate because the import of conda-lock takes seconds of processor time, sets ``CONDA_ROOT``, and changes
``sys.path`` and the filters of warnings. The process reads one task and writes one answer.
"""

import posixpath
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import yaml
from conda_lock.lockfile.v1.models import DependencySource, HashModel, LockedDependency, Lockfile, LockMeta
from conda_lock.models.channel import Channel
from pydantic import FailFast, ValidationError, ValidationInfo, field_validator

from runner.base.foreign_text import LARGE, ForeignTextError, parse_yaml
from runner.environments.resolve.conda.lock_process import (
    LockFailure,
    LockRead,
    LockResult,
    LockTask,
    LockWritten,
    ReadLock,
)
from runner.environments.resolve.conda.lockfile import FILE_NAME, CondaLock, PipPackage
from runner.environments.resolve.conda.protocol import CondaPackage
from runner.errors import EnvironmentSetupError
from runner.urls import without_channel_credentials

OURS = "proj"
MAIN = "main"
VERSION = 1
HEAD = "# Made by proj in the format of conda-lock; `conda-lock install` reads it too.\n"
MOST_ERRORS = 100
"""Errors of a file that are put into words; a message for each of a million takes seconds and gigabytes."""


class LockedPackage(LockedDependency):
    """A package of a lock. In contrast to conda-lock, its digest may be SHA-256 alone: a channel may have no MD5."""

    @field_validator("hash")
    @classmethod
    def validate_hash(cls, v: HashModel, info: ValidationInfo) -> HashModel:
        """Accept all digests: `read_conda_lock` refuses packages without any."""
        del info
        return v


class LockDocument(Lockfile):
    """A lock of which only the first invalid package is reported."""

    package: Annotated[list[LockedPackage], FailFast()]  # type: ignore[assignment]  # a list of a narrower type


def main() -> None:
    """Execute the task from standard input and write the answer to standard output."""
    task: LockTask = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=LockTask)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer(task)))


def answer(task: LockTask) -> LockResult:
    """Return the result of a task."""
    try:
        return _execute(task)
    except EnvironmentSetupError as error:
        return LockFailure(message=error.message)


def _execute(task: LockTask) -> LockResult:
    if isinstance(task, ReadLock):
        return LockRead(lock=read_file(task.text, task.path, task.platform))
    text = write_file(task.locks, task.sources, with_addresses=task.with_addresses)
    return LockWritten(text=text, locks=tuple(read_file(text, "the new lock", lock.platform) for lock in task.locks))


def read_file(text: str, path: str, platform: str) -> CondaLock:
    """Return the packages that a file has for a platform.

    Raises:
        EnvironmentSetupError: the text is not in the format of conda-lock, or has no packages for the platform.
    """
    document = _validate(text, path)
    entries = [entry for entry in document.package if entry.category == MAIN]
    here = [entry for entry in entries if entry.platform == platform and not entry.name.startswith("__")]
    if not here or platform not in document.metadata.platforms:
        there = ", ".join(sorted({entry.platform for entry in entries})) or "none"
        raise EnvironmentSetupError(f"{path} has no packages for {platform}, only for {there}", context=path)
    own = document.metadata.custom_metadata or {}
    return CondaLock(
        platform=platform,
        channels=tuple(without_channel_credentials(channel.url) for channel in document.metadata.channels),
        packages=tuple(_package(entry) for entry in here if entry.manager == "conda"),
        pip=tuple(_pip_package(entry) for entry in here if entry.manager == "pip"),
        content=document.metadata.content_hash.get(platform),
        is_ours=OURS in own,
        as_of=own.get("as_of"),
        undated=tuple(own.get("no_dates_for", "").split()),
    )


def _validate(text: str, path: str) -> LockDocument:
    """Return a file as conda-lock's model of it; size, depth and aliases are checked before."""
    try:
        whole = parse_yaml(text, LARGE)
        version = whole.get("version") if isinstance(whole, dict) else None
        if version != VERSION:
            raise EnvironmentSetupError(f"{path} has version {version}; only version 1 is supported", context=path)
        return LockDocument.model_validate(whole)
    except ForeignTextError as error:
        problem = error.problem
    except ValidationError as error:
        problem = _first_error(error)
    raise EnvironmentSetupError(f"{path} is not a lock in the format of conda-lock: {problem}", context=path)


def _first_error(error: ValidationError) -> str:
    count = error.error_count()
    if count > MOST_ERRORS:
        return f"{count} values are not valid"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))[:MOST_ERRORS]}: {first['msg']}"


def _package(entry: LockedPackage) -> CondaPackage:
    url = without_channel_credentials(entry.url)
    named = FILE_NAME.fullmatch(posixpath.basename(url))
    return CondaPackage(
        name=entry.name,
        version=entry.version,
        build=entry.build or (named["build"] if named else ""),
        url=url,
        md5=entry.hash.md5 or None,
        sha256=entry.hash.sha256 or None,
        depends=tuple(f"{name} {rule}".strip() for name, rule in entry.dependencies.items()),
    )


def _pip_package(entry: LockedPackage) -> PipPackage:
    return PipPackage(
        name=entry.name,
        version=entry.version,
        url=without_channel_credentials(entry.url),
        sha256=entry.hash.sha256 or None,
        source=without_channel_credentials(entry.source.url) if entry.source else None,
    )


def write_file(locks: Sequence[CondaLock], sources: Sequence[str], *, with_addresses: bool) -> str:
    """Return the locks of several platforms as one file.

    Without addresses, files of the Python index are given by name only, so that the index is not recorded.
    """
    first = locks[0]
    own = {OURS: "1", **({"as_of": first.as_of} if first.as_of else {})}
    undated = sorted({name for lock in locks for name in lock.undated})
    own |= {"no_dates_for": " ".join(undated)} if undated else {}
    metadata = LockMeta(
        content_hash={lock.platform: lock.content or "" for lock in locks},
        channels=[Channel(url=channel, used_env_vars=()) for channel in first.channels],
        platforms=[lock.platform for lock in locks],
        sources=list(sources),
        custom_metadata=own,
    )
    packages = [entry for lock in locks for entry in _entries(lock, with_addresses=with_addresses)]
    whole = LockDocument(package=packages, metadata=metadata).dict_for_output()
    whole["package"] = [_with_build_last(entry) for entry in whole["package"]]
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return HEAD + str(yaml.dump(whole, Dumper=dumper, sort_keys=False, width=120))


def _with_build_last(entry: dict[str, Any]) -> dict[str, Any]:
    """Keep the order of keys of locks that were written before, so that a new lock differs in packages only."""
    return {**{key: value for key, value in entry.items() if key != "build"}, **_given(build=entry.get("build"))}


def _entries(lock: CondaLock, *, with_addresses: bool) -> Iterator[LockedPackage]:
    for package in sorted(lock.packages, key=lambda item: item.name):
        yield LockedPackage(
            name=package.name,
            version=package.version,
            manager="conda",
            platform=lock.platform,
            dependencies=_rules(package.depends),
            url=package.url,
            hash=HashModel(**_given(md5=package.md5, sha256=package.sha256)),
            category=MAIN,
            optional=False,
            build=package.build,
        )
    for item in sorted(lock.pip, key=lambda item: item.name):
        yield LockedPackage(
            name=item.name,
            version=item.version,
            manager="pip",
            platform=lock.platform,
            dependencies={},
            url=item.url if with_addresses or item.source else posixpath.basename(item.url),
            hash=HashModel(**_given(sha256=item.sha256)),
            source=DependencySource(type="url", url=item.source) if item.source else None,
            category=MAIN,
            optional=False,
        )


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _rules(depends: Sequence[str]) -> dict[str, str]:
    rules: dict[str, str] = {}
    for depend in depends:
        name, _, rule = depend.partition(" ")
        rules[name] = f"{rules[name]},{rule}".strip(",") if rules.get(name) else rule.strip()
    return rules


if __name__ == "__main__":
    main()
