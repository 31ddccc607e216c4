"""Creates projects atomically, and updates projects from their template."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from runner.base.foreign_text import SMALL, ForeignTextError, parse_yaml, read_limited
from runner.base.suggestions import nearest
from runner.errors import ScaffoldError
from runner.model import Event, EventKind, Report
from runner.scaffold.plain_git import git, is_in_repository, start_repository
from runner.scaffold.releases import Templates, packaged_templates
from runner.scaffold.rendering import copier_session
from runner.scaffold.template_source import TemplateSource, find_template, recorded_template
from runner.settings import Home

ANSWERS_FILE = ".copier-answers.yml"
UNDO = "git restore -SW . && git clean -fd . takes it back"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
DEVICES = frozenset({"aux", "con", "nul", "prn", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))})
"""Names that are reserved on Windows."""


class ScaffoldRequest(Struct, frozen=True, kw_only=True):
    """A request for a new project.

    ``folder`` is to be made, its last part names the project. ``answers`` are to the template's questions; with ``ask``
    the user is asked the others on the terminal, else they have their defaults. ``trust`` lets the template run code.
    """

    folder: Path
    template: str = "sklearn"
    answers: Mapping[str, str] = {}
    ask: bool = False
    trust: bool = False


class ProjectUpdate(Struct, frozen=True, kw_only=True):
    """The result of an update: versions of the template, changed paths, and paths with conflicts."""

    before: str
    after: str
    changed: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


def new_project(request: ScaffoldRequest, home: Home, report: Report, templates: Templates | None = None) -> Path:
    """Make a project from a template, as a git repository with one commit; return its folder.

    It appears whole or not at all.

    Raises:
        ScaffoldError: the name or the folder is refused, or the template can't be used.
    """
    target = request.folder.expanduser().absolute()
    _check_name(request.folder.name)
    _check_target(target)
    source = find_template(request.template, templates or packaged_templates(), home)
    staging = Path(tempfile.mkdtemp(prefix=".proj-new-", dir=target.parent))
    try:
        made = staging / target.name
        version = _render(source, made, request, home, report)
        if is_in_repository(target.parent):
            report(
                Event(
                    kind=EventKind.NOTICE,
                    message=f"{target.parent} is in a git repository; the project has one of its own inside it",
                    hint=f"to make it a part of the outer one instead: rm -rf {target.name}/.git",
                )
            )
        start_repository(made, f"Start {target.name} from template {request.template} {version or ''}".rstrip())
        _move(made, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def update_project(
    folder: Path,
    home: Home,
    report: Report,
    *,
    ask: bool = False,
    trust: bool = False,
    templates: Templates | None = None,
) -> ProjectUpdate:
    """Merge the changes of a project's template since its last use into the working tree of the project.

    Nothing is committed. Where both changed the same lines, both are left in the file between conflict marks.

    Raises:
        ScaffoldError: the project has uncommitted changes or no answers file, or the template can't be used.
    """
    root = folder.expanduser().absolute()
    location, before = _read_origin(root)
    _check_clean(root)
    source = recorded_template(location, before, templates or packaged_templates(), home)
    if source.version == before:
        return ProjectUpdate(before=before, after=before)
    report(Event(kind=EventKind.STEP, message=f"merging the template {location} {source.version or ''}".rstrip()))
    try:
        _merge(root, source, home, report, ask=ask, trust=trust)
    except ScaffoldError as error:
        if _changes(root):
            raise ScaffoldError(
                f"{error.message}; the update is half done", context=error.context, hint=UNDO
            ) from error
        raise
    return _see_what_changed(root, before)


def _merge(root: Path, source: TemplateSource, home: Home, report: Report, *, ask: bool, trust: bool) -> None:
    with copier_session(home, report):
        from copier import run_update

        run_update(
            root,
            vcs_ref=source.version,
            overwrite=True,  # the tree is clean, so git shows and can undo every change
            skip_answered=True,
            defaults=not ask,
            unsafe=trust,
            quiet=True,
        )


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name.lower() in DEVICES:
        raise ScaffoldError(
            f"{name or '.'!r} can't be the name of a project",
            context="a name has up to 64 letters, digits, - and _, and starts with a letter",
            hint=f"try {_near_name(name)}",
        )


def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise ScaffoldError(f"{target.parent} is not a folder", hint="make it first, or start the project elsewhere")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ScaffoldError(f"{target} exists and is no folder", hint="choose another name")
    if target.is_dir() and any(target.iterdir()):
        raise ScaffoldError(
            f"{target} is not empty",
            context="a new project never mixes with files that are there",
            hint="choose another name",
        )


def _near_name(name: str) -> str:
    near = re.sub(r"[^A-Za-z0-9_-]+", "-", name).lstrip("-_0123456789").rstrip("-")[:64]
    return near if near and near.lower() not in DEVICES else "my-project"


def _render(source: TemplateSource, folder: Path, request: ScaffoldRequest, home: Home, report: Report) -> str | None:
    """Render a template into a new folder and return its version."""
    report(
        Event(kind=EventKind.STEP, message=f"rendering the template {request.template} {source.version or ''}".rstrip())
    )
    with copier_session(home, report):
        from copier import run_copy

        worker = run_copy(
            source.place,
            folder,
            {"project_name": folder.name, **request.answers},
            vcs_ref=source.version,
            defaults=not request.ask,
            unsafe=request.trust,
            cleanup_on_error=False,  # the whole staging folder is removed
            quiet=True,
        )
    questions = worker.template.questions_data
    unknown = [name for name in request.answers if name not in questions]
    if unknown:
        near = nearest(unknown[0], questions)
        raise ScaffoldError(
            f"the template has no question {', '.join(map(repr, unknown))}",
            context=f"its questions: {', '.join(questions) or 'none'}",
            hint=f"did you mean {near}?" if near else None,
        )
    if not folder.is_dir():
        raise ScaffoldError(f"the template {request.template} made no files")
    return source.version or worker.template.commit


def _move(made: Path, target: Path) -> None:
    try:
        if target.is_dir():
            target.rmdir()
        made.rename(target)
    except OSError as error:
        raise ScaffoldError(
            f"{target} came into being meanwhile", context=str(error), hint="choose another name"
        ) from error


def _read_origin(root: Path) -> tuple[str, str]:
    """Return the template of a project and its last used version."""
    try:
        answers = parse_yaml(read_limited(root / ANSWERS_FILE, SMALL))
        return str(answers["_src_path"]), str(answers["_commit"])
    except FileNotFoundError as error:
        raise ScaffoldError(
            f"{root} was not made from a template: it has no {ANSWERS_FILE}",
            hint="only projects made by `proj new` or copier can be updated",
        ) from error
    except (OSError, ForeignTextError, KeyError, TypeError) as error:
        raise ScaffoldError(
            f"{root / ANSWERS_FILE} doesn't say which version of which template was used",
            context=str(error),
            hint="an update needs _src_path and _commit there; a template that is no git repository has no versions",
        ) from error


def _check_clean(root: Path) -> None:
    if not is_in_repository(root):
        raise ScaffoldError(f"{root} is not in a git repository", hint="git init, commit all, then update")
    changed = _changes(root)
    if changed:
        raise ScaffoldError(
            "the project has uncommitted changes", context="\n".join(changed[:10]), hint="commit them, then update"
        )


def _changes(root: Path) -> list[str]:
    return git(root, "status", "--porcelain", "--", ".").splitlines()


def _see_what_changed(root: Path, before: str) -> ProjectUpdate:
    entries = git(root, "status", "--porcelain", "--untracked-files=all", "--no-renames", "-z", "--", ".").split("\0")
    changed = {entry[3:]: entry[:2] for entry in entries if entry}
    return ProjectUpdate(
        before=before,
        after=_read_origin(root)[1],
        changed=tuple(sorted(changed)),
        conflicts=tuple(sorted(path for path, state in changed.items() if "U" in state or state in {"AA", "DD"})),
    )
