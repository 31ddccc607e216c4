"""The table of projects, and where their repositories are on this machine."""

import csv
from pathlib import Path

from msgspec import Struct


class Project(Struct, frozen=True, kw_only=True):
    """A row of the table: an entry point of a project at a commit, and what is known of it already."""

    repo: str
    sha: str
    subdir: str
    entry: str
    params: tuple[str, ...]
    mlflow: str
    ceiling: str

    @property
    def name(self) -> str:
        """Repository, folder and entry point, so that two rows of one repository differ."""
        folder = f"#{self.subdir}" if self.subdir else ""
        entry = f" {self.entry}" if self.entry != "main" else ""
        return f"{self.repo}{folder}{entry}"


def read_projects(table: Path) -> list[Project]:
    """Read a table with the columns repo, sha, subdir, entry, params, base_status and ceil_status."""
    with table.open(encoding="utf-8", newline="") as file:
        return [_project(row) for row in csv.DictReader(file, delimiter="\t")]


def _project(row: dict[str, str]) -> Project:
    return Project(
        repo=row["repo"],
        sha=row["sha"],
        subdir=row.get("subdir") or "",
        entry=row.get("entry") or "main",
        params=tuple((row.get("params") or "").split()),
        mlflow=row.get("base_status") or "",
        ceiling=row.get("ceil_status") or "",
    )


def find_mirror(project: Project, mirrors: Path) -> Path | None:
    """Return the git directory of a project: ``MIRRORS/owner+name/repo``, or ``.git`` in it."""
    folder = mirrors / project.repo.replace("/", "+") / "repo"
    return next((place for place in (folder / ".git", folder) if (place / "HEAD").is_file()), None)
