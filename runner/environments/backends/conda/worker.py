"""Solves and installs conda packages in a separate process that reads one task and writes one answer.

It is separate because the library's threads may crash an interpreter that exits normally
(https://github.com/PyO3/pyo3-async-runtimes/issues/40), and because hostile input aborts the process.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import rattler
from rattler import exceptions

from runner.environments.backends.conda.archives import (
    ArchiveLocations,
    RefusedError,
    UnreachableError,
    archive_path,
    fetch_all,
)
from runner.environments.resolve.conda.protocol import (
    CondaPackage,
    Failure,
    Installed,
    InstallTask,
    Result,
    Solved,
    SolveTask,
    Task,
)
from runner.urls import without_channel_credentials

PORTABLE = {
    "linux": (("__unix", "0"), ("__linux", "5.10"), ("__glibc", "2.28")),
    "osx": (("__unix", "0"), ("__osx", "11.0")),
    "win": (("__win", "0"),),
}
"""Virtual packages that any machine has; the versions are those of conda-lock."""
ARCHSPECS = {"64": "x86_64", "aarch64": "aarch64", "arm64": "arm64", "ppc64le": "ppc64le"}
SCRIPTS = ("-post-link.sh", "-post-link.bat")


def main() -> None:
    """Execute the task from standard input and write the answer to standard output."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(answer(task))))
    sys.stdout.buffer.flush()
    os._exit(0)


async def answer(task: Task) -> Result:
    """Return the result of a task."""
    try:
        return await (solve(task) if isinstance(task, SolveTask) else install(task))
    except (exceptions.SolverError, exceptions.InvalidMatchSpecError) as error:
        return Failure(kind="unsolvable", message=without_channel_credentials(str(error)))
    except (exceptions.GatewayError, exceptions.FetchRepoDataError, UnreachableError) as error:
        return Failure(kind="unreachable", message=without_channel_credentials(str(error)))
    except RefusedError as error:
        return Failure(kind="refused", message=without_channel_credentials(str(error)))
    except exceptions.InstallerError as error:
        return Failure(kind="unlinked", message=without_channel_credentials(str(error)))
    except (OSError, ValueError, RuntimeError) as error:
        return Failure(kind="broken", message=without_channel_credentials(str(error)))


async def solve(task: SolveTask) -> Solved:
    """Return the packages that satisfy the specs of a task.

    Channels have strict priority, as conda recommends. If that leaves no solution they are mixed, as by conda's
    default.
    """
    try:
        records, is_mixed = await _solve(task, rattler.ChannelPriority.Strict), False
    except exceptions.SolverError:
        if len(task.channels) == 1:
            raise
        records, is_mixed = await _solve(task, rattler.ChannelPriority.Disabled), True
    locations = ArchiveLocations(task.channels)
    unhashed = [record.name.normalized for record in records if not (record.sha256 or record.md5)]
    if unhashed:
        raise ValueError(f"the channel has no digest of {', '.join(unhashed)}")
    undated = [record.name.normalized for record in records if task.as_of and _date(record) is None]
    return Solved(
        packages=tuple(sorted((_package(record, locations) for record in records), key=lambda item: item.name)),
        undated=tuple(sorted(undated)),
        is_mixed=is_mixed,
    )


async def _solve(task: SolveTask, priority: rattler.ChannelPriority) -> list[rattler.RepoDataRecord]:
    from rattler.platform import Subdir

    config = rattler.SourceConfig(cache_action="force-cache-only" if task.is_offline else "cache-or-fetch")
    return await rattler.solve(
        sources=[channel.address for channel in task.channels],
        specs=[rattler.MatchSpec(spec) for spec in task.specs],
        gateway=rattler.Gateway(
            cache_dir=Path(task.cache), default_config=config, client=rattler.Client.default_client(max_retries=1)
        ),
        platforms=[Subdir(task.platform), Subdir("noarch")],
        virtual_packages=_portable(task.platform) if task.is_portable else _detected(),
        channel_priority=priority,
        exclude_newer=datetime.fromisoformat(task.as_of.replace("Z", "+00:00")) if task.as_of else None,
        # Packages from before 2017 have no date.
        timestamp_policy="allow-missing",
    )


def _detected() -> list[rattler.VirtualPackage]:
    return rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())


def _portable(platform: str) -> list[rattler.GenericVirtualPackage]:
    from rattler.package import PackageName

    system, _, machine = platform.partition("-")
    names = [(*pair, "0") for pair in PORTABLE.get(system, ())]
    names.append(("__archspec", "1", ARCHSPECS.get(machine, machine)))
    return [
        rattler.GenericVirtualPackage(PackageName(name), rattler.Version(version), rattler.BuildString(build))
        for name, version, build in names
    ]


def _date(record: rattler.RepoDataRecord) -> datetime | None:
    return record.indexed_timestamp or record.timestamp


def _package(record: rattler.RepoDataRecord, locations: ArchiveLocations) -> CondaPackage:
    return CondaPackage(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        url=locations.public_url(record.url),
        md5=record.md5.hex() if record.md5 else None,
        sha256=record.sha256.hex() if record.sha256 else None,
        depends=tuple(record.depends),
    )


async def install(task: InstallTask) -> Installed:
    """Download, check and install the packages of a task."""
    archives = Path(task.archives)
    fetched = await fetch_all(task.packages, archives, ArchiveLocations(task.channels))
    paths = [archive_path(archives, package) for package in task.packages]
    records = await asyncio.gather(*map(rattler.RepoDataRecord.from_package_archive, paths))
    await _link(task, records)
    return Installed(fetched=fetched, scripts=tuple(_write_origins(task)))


async def _link(task: InstallTask, records: Sequence[rattler.RepoDataRecord]) -> None:
    from rattler.platform import Subdir

    mode = rattler.ValidationMode.full() if task.is_careful else rattler.ValidationMode.skip()

    await rattler.install(
        list(records),
        target_prefix=task.prefix,
        package_cache=rattler.PackageCache.new_layered([task.cache], validation_mode=mode),
        platform=Subdir(task.platform),
        execute_link_scripts=False,
        show_progress=False,
    )


def _write_origins(task: InstallTask) -> list[str]:
    """Write the origin of packages instead of the path of their archives; return the packages with scripts."""
    scripts = []
    metas = {path.name.lower(): path for path in (Path(task.prefix) / "conda-meta").glob("*.json")}
    for package in task.packages:
        path = metas[f"{package.name}-{package.version}-{package.build}.json".lower()]
        meta = msgspec.json.decode(path.read_bytes())
        meta |= {"url": package.url, "channel": package.url.rsplit("/", 2)[0], "md5": package.md5}
        meta = {key: value for key, value in meta.items() if value is not None}
        path.write_bytes(msgspec.json.format(msgspec.json.encode(meta)))
        scripts += [package.name] if any(name.endswith(SCRIPTS) for name in meta.get("files", ())) else []
    return scripts


if __name__ == "__main__":
    main()
