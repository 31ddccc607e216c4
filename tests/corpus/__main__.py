"""``python -m tests.corpus --table FILE.tsv --mirrors DIR --out FILE.tsv``: how public projects fare."""

import argparse
import csv
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from tests.corpus.mirrors import make_whole
from tests.corpus.projects import Project, find_mirror, read_projects
from tests.corpus.trial import Trial, run_trial


def main(words: list[str]) -> None:
    """Run the projects of a table one after the other; a row is written as soon as it is known."""
    requested = _read_words(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("UV_CACHE_DIR", str(requested.work / "uv-cache"))
    projects = [one for one in read_projects(requested.table) if not requested.only or _is_asked(one, requested.only)]
    trials = []
    with requested.out.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(Trial.__struct_fields__)
        for trial in _trials(projects, requested):
            trials.append(trial)
            table.writerow(msgspec.structs.astuple(trial))
            file.flush()
            print(f"{trial.outcome:8}{trial.seconds:7.1f} s  {trial.repo} {trial.subdir}  {trial.cause}", flush=True)
    for line in _summary(trials):
        print(line)


def _read_words(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="rows of repo, sha, subdir, entry, params")
    parser.add_argument("--mirrors", type=Path, required=True, help="a folder of OWNER+NAME/repo git directories")
    parser.add_argument("--out", type=Path, required=True, help="the table to write")
    parser.add_argument("--only", nargs="+", metavar="REPO", help="these repositories; REPO#SUBDIR is one row")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="for one project")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "proj-corpus", metavar="DIR")
    parser.add_argument("--keep", action="store_true", help="keep environments and folders of the runs")
    return parser.parse_args(words)


def _is_asked(project: Project, only: Iterable[str]) -> bool:
    return any(word in (project.repo, f"{project.repo}#{project.subdir}") for word in only)


def _trials(projects: list[Project], requested: argparse.Namespace) -> Iterator[Trial]:
    for project in projects:
        mirror = find_mirror(project, requested.mirrors)
        if mirror is None:
            print(f"no mirror of {project.repo}", file=sys.stderr)
            continue
        workdir = requested.work.absolute() / re.sub(r"\W+", "-", project.name)
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir(parents=True)
        yield run_trial(make_whole(project, mirror.absolute(), workdir), workdir, requested.timeout)
        if not requested.keep:
            for name in ("environments", "folders", "vault.git", "cache"):
                for home in (workdir / "home", workdir / "again" / "home"):
                    shutil.rmtree(home / name, ignore_errors=True)


def _summary(trials: list[Trial]) -> Iterator[str]:
    """Yield the counts against what is possible and against MLflow's own launcher."""
    possible = [trial for trial in trials if trial.ceiling == "ok"]
    reached = [trial for trial in possible if trial.outcome == "ok"]
    beyond = [trial for trial in trials if trial.outcome == "ok" and trial.ceiling != "ok"]
    tried = [trial for trial in trials if trial.mlflow]
    alone = sum(not trial.options for trial in reached)
    yield f"{len(reached)} of {len(possible)} that are possible reached the end, {alone} without options from hints"
    yield f"{len(beyond)} others did"
    yield (
        f"of {len(tried)} that 'mlflow run' was tried on: {sum(trial.mlflow == 'ok' for trial in tried)} by it, "
        f"{sum(trial.outcome == 'ok' for trial in tried)} by proj"
    )
    ended = [trial for trial in trials if trial.outcome == "ok"]
    yield (
        f"of {len(ended)} that reached the end, {sum(trial.recorded != 'nothing' for trial in ended)} recorded "
        f"something and {sum(trial.environment == 'as declared' for trial in ended)} ran as declared"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
