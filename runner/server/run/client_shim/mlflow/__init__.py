"""Import shim for the `mlflow` package that redirects local tracking URIs to the server of the run.

Python finds this package first on the import path; it replaces itself in `sys.modules` by the real one. It runs in
the Python of the command, which may be as old as 3.6, so it imports nothing of proj and uses no newer syntax.
"""

import functools
import json
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any, Callable, Optional, Set, Tuple
from urllib.parse import urlsplit

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OWN = os.environ.get("PROJ_TRACKING_URI", "")
"""The tracking URI of the run."""
TOKEN = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
HOSTS = os.environ.get("PROJ_TRACKING_HOSTS", "").split()
"""Servers, as ``host:port``, whose URIs are redirected to the run."""
PLACES = bool(os.environ.get("PROJ_TRACKING_PLACES"))
"""Whether tracking URIs on disk are redirected to the run."""
NOTES = os.environ.get("PROJ_TRACKING_NOTES", "")
"""The file that lists the redirected URIs."""
KINDS = {
    "mlflow.tracking.utils": "tracking",
    "mlflow.tracking._tracking_service.utils": "tracking",
    "mlflow.tracking._model_registry.utils": "registry",
}
"""The modules of all MLflow versions that set and resolve URIs, and the kind of the URIs."""
SERVICES = ("databricks", "databricks-uc", "uc")
"""URIs of services that look like relative paths."""
PORTS = {"http": 80, "https": 443}
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
MAX_NOTES = 1000
"""Maximum number of URIs that one process notes: code may create one for each of its steps."""
noted: Set[Tuple[str, str]] = set()

Function = Callable[..., Any]


def is_redirected(uri: object) -> bool:
    """Check whether a URI is redirected: it is on disk, or of a server in `HOSTS`."""
    text = str(uri)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme in PORTS:
        return "{}:{}".format(parts.hostname, port or PORTS[parts.scheme]) in HOSTS
    is_drive = len(parts.scheme) == 1
    is_path = parts.scheme in ("", "file") and text not in SERVICES
    return PLACES and (is_drive or is_path or parts.scheme.partition("+")[0] == "sqlite")


def redirected(uri: object) -> object:
    """Return the URI to use instead of the one in the code."""
    if uri is None or not OWN or not (uri == OWN or is_redirected(uri)):
        return uri
    if uri != OWN:
        note(str(uri))
    if noted and TOKEN:  # credentials for another server would take precedence over the token
        for name in CREDENTIALS:
            os.environ.pop(name, None)
        os.environ["MLFLOW_TRACKING_TOKEN"] = TOKEN
    return OWN


def note(uri: str) -> None:
    """Note a redirected URI and its line of code, once."""
    where = caller()
    if (uri, where) in noted or len(noted) >= MAX_NOTES:
        return
    noted.add((uri, where))
    if NOTES:
        try:
            with open(NOTES, "a", encoding="utf-8") as file:
                file.write(json.dumps({"place": uri, "where": where}) + "\n")
        except OSError:  # a full disk: the script continues without the note
            return


def caller() -> str:
    """Return file and line of the code that called MLflow's client."""
    client = os.path.dirname(os.path.abspath(str(getattr(sys.modules.get("mlflow"), "__file__", None) or __file__)))
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = os.path.abspath(frame.f_code.co_filename)
        if path != os.path.abspath(__file__) and not path.startswith(client + os.sep):
            return "{}:{}".format(os.path.relpath(path), frame.f_lineno)
        frame = frame.f_back
    return ""


def keep(module: ModuleType) -> None:
    """Wrap the functions of a module that set, get and resolve URIs, so that they redirect."""
    kind = KINDS[module.__name__]

    def wrap_setter(original: Function) -> Function:
        @functools.wraps(original)
        def setter(uri: object, *args: object, **kwargs: object) -> object:
            return original(redirected(uri), *args, **kwargs)

        return setter

    def wrap_getter(original: Function) -> Function:
        @functools.wraps(original)
        def getter(*args: object, **kwargs: object) -> object:
            return redirected(original(*args, **kwargs))

        return getter

    wraps = {"set_%s_uri": wrap_setter, "get_%s_uri": wrap_getter, "_resolve_%s_uri": wrap_getter}
    for pattern, wrap in wraps.items():
        original = getattr(module, pattern % kind, None)
        if original is not None and original.__module__ == module.__name__:
            setattr(module, pattern % kind, wrap(original))


class Finder:
    """Import finder that wraps the modules in `KINDS` after they are loaded."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """Return the spec of a module in `KINDS`, None for any other module."""
        spec = PathFinder.find_spec(name, path, target) if name in KINDS else None
        loader: Any = spec.loader if spec else None
        execute = getattr(loader, "exec_module", None)
        if execute is not None:

            def exec_module(module: ModuleType) -> None:
                execute(module)
                keep(module)

            loader.exec_module = exec_module
        return spec


def find_real() -> Any:
    """Return the spec of the real MLflow package, None when it is not installed."""
    before = sys.path
    sys.path = [entry for entry in before if os.path.abspath(entry) != HERE]
    try:
        for finder in sys.meta_path:
            spec = finder.find_spec("mlflow", None) if hasattr(finder, "find_spec") else None
            if spec is not None:
                return spec
    finally:
        sys.path = before
    return None


def load_real_package() -> None:
    """Load the real MLflow package, and replace this one.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
    """
    spec = find_real()
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'mlflow'", name="mlflow")
    sys.meta_path.insert(0, Finder)
    real = module_from_spec(spec)
    spec._initializing = True  # as importlib does, for other threads that import it at the same time
    try:
        sys.modules["mlflow"] = real
        spec.loader.exec_module(real)
    finally:
        spec._initializing = False


if __name__ == "mlflow":
    load_real_package()
