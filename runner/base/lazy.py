"""Delays the import of a module until its first use, because most commands do not use it."""

from importlib import import_module


class LazyModule:
    """Stands for a module; the first use of something in it imports it.

    The same name is imported below ``if TYPE_CHECKING``, so that readers, checkers and the rules of the layers see it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        """Return what the module calls by a name."""
        found: object = getattr(import_module(self._name), name)
        return found
