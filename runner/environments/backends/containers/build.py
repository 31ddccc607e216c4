"""Builds images from the project's Dockerfile, once per content of its context."""

import hashlib
import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.base.files import new_folder, remove_tree, sha256_of, write_atomically
from runner.base.locks import locked
from runner.engine import Engine
from runner.environments.backends.containers.built import TOP
from runner.environments.backends.containers.images import Image, find_image, last_lines, run_tool
from runner.environments.cache.leases import lease_until_exit
from runner.environments.declare.containers.spec import build_file
from runner.environments.model import AnyRequest
from runner.errors import EnvironmentSetupError
from runner.model import Event, EventKind, ImageBuild, ProjectFiles, Report


def known_tag(engine: Engine, build: ImageBuild, request: AnyRequest) -> str | None:
    """Return the tag of the image that was built for this tree, None if it was not built here."""
    try:
        return _note(engine, build, request).read_text(encoding="utf-8")
    except OSError:
        return None


def get_built(engine: Engine, build: ImageBuild, request: AnyRequest, report: Report) -> tuple[str, Image]:
    """Return tag and image of a build; build it if there is none with the same context, file and arguments.

    `remove_image` does not remove it until this process ends.

    Raises:
        EnvironmentSetupError: the build fails; the message has the path of its log.
    """
    tag = known_tag(engine, build, request)
    if tag:
        lease_until_exit(request.home.environments, tag.rpartition(":")[2])
    image = find_image(engine, tag) if tag else None
    if tag and image:
        with suppress(OSError):
            os.utime(request.home.root / "images" / f"{tag.rpartition(':')[2]}.lock")  # the time of last use
        return tag, image
    if request.files is None or request.tree is None:
        raise EnvironmentSetupError("building an image needs the frozen tree of the project")
    folder = request.home.root / "images"
    temporary = new_folder(folder, "building-")
    try:
        file = build_file(build, request.files)
        context = _stage(request.tree.folder(), build.context, request.files, temporary / "context")
        shutil.copyfile(request.tree.folder() / file, temporary / "Dockerfile")
        identity = _identity(build, context, temporary / "Dockerfile")
        tag = f"{TOP}:{identity[:24]}"
        lease_until_exit(request.home.environments, identity[:24])
        with locked(folder / f"{identity[:24]}.lock"):
            image = find_image(engine, tag)
            if image is None:
                image = _build(engine, build, tag, temporary, request, report)
    finally:
        remove_tree(temporary)
    write_atomically(_note(engine, build, request), tag.encode())
    return tag, image


def _note(engine: Engine, build: ImageBuild, request: AnyRequest) -> Path:
    """Return the file with the tag of a tree's image, so that an unchanged tree is not read again."""
    parts = (request.code, build, engine.kind, engine.is_rootless)
    key = hashlib.sha256(msgspec.json.encode(parts)).hexdigest() if request.code else "unknown"
    return request.home.root / "images" / "trees" / key


def _stage(project: Path, context: str, files: ProjectFiles, target: Path) -> Path:
    """Copy the frozen files of a context, and nothing that only lies beside them, with permissions and links."""
    target.mkdir(parents=True)
    for path in _frozen(project, context, files):
        source = project / path
        copy = target / posixpath.relpath(path, context)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)
    return target


def _frozen(project: Path, folder: str, files: ProjectFiles) -> Iterator[str]:
    for name in files.names("" if folder == "." else folder):
        path = posixpath.normpath(posixpath.join(folder, name))
        file = project / path
        if name.endswith("/") and not file.is_symlink():
            yield from _frozen(project, path, files)
        elif os.path.lexists(file):
            yield path


def _identity(build: ImageBuild, context: Path, file: Path) -> str:
    """Return the digest of all build inputs of the project: names, modes, contents, arguments."""
    digest = hashlib.sha256(msgspec.json.encode((build.arguments, build.target, sha256_of(file))))
    for path in sorted(path for path in context.rglob("*") if path.is_symlink() or path.is_file()):
        is_link = path.is_symlink()
        content = os.readlink(path) if is_link else sha256_of(path)  # noqa: PTH115  # Path would normalise the text
        mode = "link" if is_link else str(path.stat().st_mode & 0o100)
        digest.update(msgspec.json.encode((os.fsencode(path.relative_to(context)).hex(), mode, content)))
    return digest.hexdigest()


def _build(engine: Engine, build: ImageBuild, tag: str, temporary: Path, request: AnyRequest, report: Report) -> Image:
    log = request.home.root / "images" / f"{tag.rpartition(':')[2]}.log"
    log.unlink(missing_ok=True)
    report(Event(kind=EventKind.STEP, message=f"Building the image of {build.context} (log: {log})"))
    arguments = [word for name, value in build.arguments for word in ("--build-arg", f"{name}={value}")]
    target = ["--target", build.target] if build.target else []
    options = ["--file", str(temporary / "Dockerfile"), "--tag", tag, *arguments, *target, str(temporary / "context")]
    outcome = run_tool([engine.program, "build", *options], request, log)
    image = find_image(engine, tag) if outcome.exit_code == 0 else None
    if image is None:
        raise EnvironmentSetupError(
            "The image of the project can't be built",
            context=f"{last_lines(log)}\nwhole log: {log}",
            hint=f"Only files that git does not ignore are in the context. Try `{engine.kind.value} build "
            f"{build.context}` in the project.",
        )
    return image
