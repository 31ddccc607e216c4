"""Loads the trace hook where proj can only set PYTHONPATH, and then the module that this one hides.

Any Python may import this, also Python 2, so it uses no newer syntax.
"""

import os
import sys


def run_hidden(folder):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  Python 2 has no syntax for types
    """Load the ``sitecustomize`` of the environment, which comes later on the import path."""
    finder = sys.modules["_frozen_importlib_external"].PathFinder
    make = sys.modules["_frozen_importlib"].module_from_spec
    spec = finder.find_spec("sitecustomize", [entry for entry in sys.path if entry != folder])
    if spec is not None and spec.loader is not None:
        module = make(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def start():  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Take this folder off the import path, load the hook, and load the hidden module."""
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    if sys.version_info >= (3, 8):
        sys.path.insert(0, os.path.dirname(folder))
        __import__("proj_trace_hook")
        run_hidden(folder)  # type: ignore[no-untyped-call]


start()  # type: ignore[no-untyped-call]
