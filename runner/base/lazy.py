"""Delays the import of a module until its first use, because most commands do not use it."""

from importlib import import_module


class LazyModule:
    """A placeholder of a module, which is imported when one of its names is first used.

    The same name is imported below ``if TYPE_CHECKING``, so that readers, type checkers and import contracts see it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the module."""
        found: object = getattr(import_module(self._name), name)
        return found
