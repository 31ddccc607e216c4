"""Packages data-science projects, runs them, and ties every result to the exact code that made it.

`run`, `start_run`, `reproduce`, `get_run` and `search_runs` are the Python interface; everything else in this package
may change.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    import pandas as pd

    from runner.interactive.active_run import ActiveRun
    from runner.interactive.handle import RunHandle
    from runner.interactive.runs import DescribedRun, Run, RunList
    from runner.reproduction.verdict import Reproduction

__all__ = ["get_run", "reproduce", "run", "search_runs", "start_run"]


@overload
def run(
    uri: str = ".",
    *,
    entry_point: str | None = None,
    parameters: Mapping[str, object] | None = None,
    wait: Literal[True] = True,
    **options: object,
) -> "Run": ...


@overload
def run(
    uri: str = ".",
    *,
    entry_point: str | None = None,
    parameters: Mapping[str, object] | None = None,
    wait: Literal[False],
    **options: object,
) -> "RunHandle": ...


def run(
    uri: str = ".",
    *,
    entry_point: str | None = None,
    parameters: Mapping[str, object] | None = None,
    wait: bool = True,
    **options: object,
) -> "Run | RunHandle":
    """Run an entry point of a project to its end and return the run.

    A command that fails raises nothing: see ``status`` and ``exit_code`` of the run.

    Args:
        uri: a folder, a git URL or a zip file.
        entry_point: an entry point, or a script or notebook of the project; ``main`` by default.
        parameters: the values of parameters.
        wait: with False the run works in a process of its own, and a handle is returned as soon as it has an id.
        **options: the other fields of `runner.model.RunRequest`, such as ``version``, ``experiment_name`` or
            ``environment_manager``.

    Raises:
        runner.errors.ProjError: the run could not be started, or its environment could not be built.
    """
    # Imported here: importing one module of the package runs this file and must not load all the others.
    library = importlib.import_module("runner.library")
    start = library.run if wait else library.start
    found: Run | RunHandle = start(uri, entry_point, dict(parameters or {}), options)
    return found


def start_run(
    name: str | None = None,
    *,
    experiment: str | None = None,
    folder: str | None = None,
    tags: Mapping[str, str] | None = None,
    tracking_uri: str | None = None,
) -> "ActiveRun":
    """Open a run for a notebook or a program that `proj run` has not started.

    It has the same record: the tree of the project as it is now, its commit and changes, the interpreter and its
    packages, the machine; of a notebook also the executed cells. Use it in a ``with`` block, or call ``end``. In the
    command of a run, the first call returns that run. ``mlflow`` logs to the run while it is open.

    Args:
        name: the name of the run; a new one is made by default.
        experiment: the name of the experiment; by default that of the project.
        folder: a folder of the project; the current one by default.
        tags: tags of the run.
        tracking_uri: a server that records the run too; by default the one of MLFLOW_TRACKING_URI.

    Raises:
        runner.errors.ProjError: the run can't be recorded; the folder is not a project.
    """
    library = importlib.import_module("runner.library")
    words = {"name": name, "experiment": experiment, "folder": folder, "tracking_uri": tracking_uri}
    found: ActiveRun = library.start_run({**words, "tags": dict(tags or {})})
    return found


def reproduce(run: str = "latest", **options: object) -> "Reproduction":
    """Run a recorded run again from its record alone, and return how the results compare.

    A result that differs raises nothing: see ``verdict``, and ``verdict.is_reproduced``. ``options`` are the other
    fields of `runner.reproduction.reproducing.ReproduceRequest`: ``inputs``, ``allow_changed_inputs``, ``parameters``,
    ``rtol``, ``atol``.

    Args:
        run: an id, the beginning of an id, a name, ``latest``, or ``runs:/ID``.
        **options: see above.

    Raises:
        runner.errors.ProjError: the run does not exist, has not ended, or its record is not sufficient.
    """
    library = importlib.import_module("runner.library")
    found: Reproduction = library.reproduce({"run": run, **options})
    return found


def get_run(run: str = "latest", *, tracking_uri: str | None = None) -> "DescribedRun":
    """Return a run with its files, datasets, models, parent and nested runs.

    Args:
        run: an id, the beginning of an id, a name, ``latest``, ``latest~1``, or ``@TAG``.
        tracking_uri: a server to read instead of the local store. ``""`` means the local store, also if
            MLFLOW_TRACKING_URI names a server.

    Raises:
        runner.errors.ProjError: no run matches, or a server fails.
    """
    library = importlib.import_module("runner.library")
    found: DescribedRun = library.get_run(run, tracking_uri=tracking_uri)
    return found


@overload
def search_runs(
    filter: str = "",
    *,
    order_by: Sequence[str] = (),
    experiment: str | None = None,
    max_results: int = 1000,
    as_frame: Literal[False] = False,
    tracking_uri: str | None = None,
) -> "RunList": ...


@overload
def search_runs(
    filter: str = "",
    *,
    order_by: Sequence[str] = (),
    experiment: str | None = None,
    max_results: int = 1000,
    as_frame: Literal[True],
    tracking_uri: str | None = None,
) -> "pd.DataFrame": ...


def search_runs(
    filter: str = "",  # noqa: A002  MLflow's word
    *,
    order_by: Sequence[str] = (),
    experiment: str | None = None,
    max_results: int = 1000,
    as_frame: bool = False,
    tracking_uri: str | None = None,
) -> "RunList | pd.DataFrame":
    """Return the records of runs, newest first unless ordered otherwise.

    Args:
        filter: a condition in MLflow's language: ``metrics.rmse < 0.8 AND params.model = 'linear'``.
        order_by: columns such as ``metrics.rmse ASC``; the first one counts most.
        experiment: name or id of an experiment; all experiments are searched by default.
        max_results: the maximal number of records.
        as_frame: whether to return a pandas DataFrame, with columns such as ``metrics.rmse`` and ``params.alpha``.
        tracking_uri: a server to search instead of the local store. ``""`` means the local store, also if
            MLFLOW_TRACKING_URI names a server.

    Raises:
        runner.errors.ProjError: the filter or order is not valid, the experiment does not exist, or a server fails.
        ImportError: ``as_frame`` is set and pandas is not installed.
    """
    library = importlib.import_module("runner.library")
    found: RunList | pd.DataFrame = library.search_runs(
        {"filter": filter, "order_by": order_by, "experiment": experiment, "limit": max_results},
        as_frame=as_frame,
        tracking_uri=tracking_uri,
    )
    return found
