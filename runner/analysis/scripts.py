"""Finds the scripts that a command reaches, and collects their imports, URLs and paths, without executing them."""

import codecs
import posixpath
import re
import sys
from collections import deque
from collections.abc import Iterator

from msgspec import Struct, structs

from runner.analysis.script_reader import Script, SourcePosition, read_script
from runner.base.foreign_text import (
    LARGEST_SCRIPT,
    NOTEBOOK,
    ForeignTextError,
    parse_json_as,
)
from runner.model import ProjectFiles

REMOVED_MODULES = frozenset({
    *("aifc", "asynchat", "asyncore", "audioop", "binhex", "cgi", "cgitb", "chunk", "crypt", "distutils"),
    *("dummy_threading", "formatter", "imghdr", "imp", "lib2to3", "macpath", "mailcap", "msilib", "nis", "nntplib"),
    *("ossaudiodev", "parser", "pipes", "smtpd", "sndhdr", "spwd", "sunau", "symbol", "telnetlib", "uu", "xdrlib"),
    *("_dummy_threading", "_bootlocale", "__main__"),
})  # fmt: skip
"""Modules that were removed from the standard library."""

NEW_MODULES = frozenset({"annotationlib", "compression", "graphlib", "tomllib", "zoneinfo"})
STANDARD_LIBRARY = sys.stdlib_module_names | REMOVED_MODULES | NEW_MODULES

MAX_SCRIPTS = 300
MAX_IMPORTS = 2000
"""Most imports of one script that are searched in the project."""
MAX_DEPTH = 8
"""Most folders above the project, and parts of a module's name, that are searched."""
ROOTS = ("", "src", "..", "../src")
"""Usual folders of a project's packages, relative to the project folder."""

WORD = r"[\w./\\-]+"
SCRIPT_ENDINGS = (".py", ".ipynb", ".sh")
MODULE_RUN = r"\bpython[\d.]*\s+(?:-[A-Za-z]\s+)*-m\s+(?P<name>[A-Za-z_][\w.]*)"
FOLDER_CHANGE = r"\bcd\s+(?P<folder>[\w./-]+)\s*(?:&&|;|\n)"
MAGIC = r"^\s*[%!?]"


class Scripts(Struct, frozen=True, kw_only=True):
    """The scripts that a command reaches.

    ``started`` are the existing scripts in the command itself. ``elsewhere`` maps modules that these can't import
    to the folder of the repository that has a file or folder of this name.
    """

    started: tuple[str, ...] = ()
    found: tuple[Script, ...] = ()
    elsewhere: dict[str, str] = {}

    def outside(self) -> dict[str, SourcePosition]:
        """Return the modules from outside the project by name, each with the first script and line that imports it."""
        first: dict[str, SourcePosition] = {}
        for script in self.found:
            for position in script.imports:
                if position.text.partition(".")[0] not in STANDARD_LIBRARY:
                    first.setdefault(position.text, SourcePosition(script.path, position.line))
        return first


def named_experiment(scripts: Scripts) -> str | None:
    """Return the experiment that scripts set, or None if they set none or more than one."""
    names = {position.text for script in scripts.found for position in script.experiments}
    return names.pop() if len(names) == 1 else None


def read_scripts(command: str, files: ProjectFiles) -> Scripts:
    """Read the scripts in a command and the modules of the project that they import."""
    started = tuple(dict.fromkeys(_named(command, files)))
    own = {posixpath.dirname(path) for path in started} | ({""} if re.search(MODULE_RUN, command) else set())
    ran = tuple(SourcePosition(match["name"], 0) for match in re.finditer(MODULE_RUN, command))
    return _read(started, tuple(sorted(own)), files, ran)


def read_all(files: ProjectFiles) -> Scripts:
    """Read every script of the project folder, for commands without a script."""
    paths = tuple(path for path in walk(files) if path.endswith((".py", ".ipynb")) and not _is_excluded(path))
    return structs.replace(_read(paths, (), files), started=())


def _read(
    paths: tuple[str, ...], own: tuple[str, ...], files: ProjectFiles, ran: tuple[SourcePosition, ...] = ()
) -> Scripts:
    found = tuple(_follow(paths, own, files))
    if ran and not paths:
        found = (*found, Script(path="the command", imports=ran))
    scripts = Scripts(started=paths, found=found)
    names = {name.partition(".")[0] for name in scripts.outside()}
    return structs.replace(scripts, elsewhere=_elsewhere(names, files)) if names else scripts


def _elsewhere(names: set[str], files: ProjectFiles) -> dict[str, str]:
    """Map names to the folder of the repository that contains them; the nearest folder wins."""
    found: dict[str, str] = {}
    for start in dict.fromkeys(("", above(files)[-1])):
        for path in walk(files, start):
            folder, _, file = path.rpartition("/")
            stem, dot, extension = file.rpartition(".")
            if dot and extension == "py" and stem in names:
                found.setdefault(stem, folder)
            parent, _, last = folder.rpartition("/")
            if last in names and extension == "py":
                found.setdefault(last, parent)
    return found


def above(files: ProjectFiles) -> tuple[str, ...]:
    """Return the folders from the project folder to the top of the repository: ``""``, ``".."``, ``"../.."``."""
    folders = [""]
    while len(folders) <= MAX_DEPTH and files.names(posixpath.join(folders[-1], "..")):
        folders.append(posixpath.join(folders[-1], ".."))
    return tuple(folders)


def walk(files: ProjectFiles, folder: str = "", most: int = 5000) -> Iterator[str]:
    """Yield the paths of the files below a folder in breadth-first order, until ``most`` files and folders are seen."""
    waiting = deque([folder])
    count = 0
    while waiting and count < most:
        here = waiting.popleft()
        count += 1  # links can lead to folders without end
        for name in files.names(here):
            path = posixpath.join(here, name)
            if name.endswith("/"):
                if not name.startswith(".") and name.rstrip("/") not in ("node_modules", "mlruns", "venv", "env"):
                    waiting.append(path.rstrip("/"))
            else:
                count += 1
                yield path


def find_module(name: str, files: ProjectFiles, folders: tuple[str, ...]) -> str | None:
    """Return the file of a dotted module, or of the nearest enclosing package, below one of the folders."""
    parts = name.split(".")[:MAX_DEPTH]
    for folder in folders:
        for length in range(len(parts), 0, -1):
            stem = posixpath.normpath(posixpath.join(folder, *parts[:length]))
            for path in (f"{stem}.py", f"{stem}/__init__.py"):
                if files.read(path) is not None:
                    return path
    return None


def _named(command: str, files: ProjectFiles, folder: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the existing scripts that a command or a shell script starts."""
    change = re.search(FOLDER_CHANGE, command)
    here = posixpath.normpath(posixpath.join(folder, change["folder"])) if change else folder
    for word in _script_words(command):
        plain = word.replace("\\", "/")
        tried = (posixpath.normpath(posixpath.join(above, plain)) for above in dict.fromkeys((here, folder)))
        path = next((one for one in tried if files.read(one) is not None), None)
        if path and path.endswith(".sh"):
            if depth < 3:  # noqa: PLR2004  scripts that start each other
                yield from _named(_text(files, path), files, folder, depth + 1)
        elif path:
            yield path
    for match in re.finditer(MODULE_RUN, command):
        for name in (f"{match['name']}.__main__", match["name"]):
            path = find_module(name, files, (here or "",))
            if path:
                yield path
                break


def _script_words(command: str) -> Iterator[str]:
    """Yield the words of a command that contain the suffix of a script, each cut after the last suffix."""
    for word in re.findall(WORD, command):
        end = max(word.rfind(ending) + len(ending) if word.rfind(ending) > 0 else 0 for ending in SCRIPT_ENDINGS)
        if end:
            yield word[:end]


def _follow(paths: tuple[str, ...], own: tuple[str, ...], files: ProjectFiles) -> Iterator[Script]:
    """Yield scripts and the local modules that they import, without the imports that are certainly local."""
    waiting, seen = deque(paths), set(paths)
    while waiting and len(seen) < MAX_SCRIPTS:
        path = waiting.popleft()
        script = read_script(path, _text(files, path))
        outside: list[SourcePosition] = []
        for position in (*script.imports, *script.guarded)[:MAX_IMPORTS]:
            local, is_certain = _local(position.text, path, own, files)
            if local and local not in seen:
                seen.add(local)
                waiting.append(local)
            if not is_certain and position in script.imports:
                outside.append(position)
        yield structs.replace(script, imports=tuple(outside), guarded=())


def _local(name: str, importer: str, own: tuple[str, ...], files: ProjectFiles) -> tuple[str | None, bool]:
    """Return the project file that a module name may refer to, and whether that is certain."""
    folder = posixpath.dirname(importer)
    if name.startswith("."):
        plain = name.lstrip(".")
        parent = posixpath.normpath(posixpath.join(folder, *[".."] * (len(name) - len(plain) - 1)))
        return find_module(plain, files, (parent,)) if plain else None, True
    if name.partition(".")[0] in STANDARD_LIBRARY:
        return None, True
    beside = find_module(name, files, own)
    if beside:
        return beside, True
    return find_module(name, files, tuple(dict.fromkeys((folder, *ROOTS)))), False


def _is_excluded(path: str) -> bool:
    return bool(re.search(r"(^|/)(tests?|docs?)/|(^|/)(setup|conftest|test_\w+)\.py$|checkpoint\.ipynb$", path))


def _text(files: ProjectFiles, path: str) -> str:
    content = files.read(path) or b""
    if path.endswith(".ipynb"):
        return _cells(content)
    return content[: LARGEST_SCRIPT + 1].decode("utf-8-sig", "replace")


class _Cell(Struct):
    cell_type: str = ""
    source: str | list[str] = ""


class _Notebook(Struct):
    cells: list[_Cell] = []


def _cells(content: bytes) -> str:
    """Return the code of a notebook, without IPython magics."""
    try:
        cells = parse_json_as(content.removeprefix(codecs.BOM_UTF8), _Notebook, NOTEBOOK).cells
    except ForeignTextError:
        return ""
    sources = ["".join(cell.source) for cell in cells if cell.cell_type == "code"]
    lines = "\n".join(source for source in sources if not source.startswith("%%")).splitlines()
    return "\n".join("" if re.match(MAGIC, line) else line for line in lines)
