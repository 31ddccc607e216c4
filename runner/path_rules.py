"""Makes the rules by which the paths in parameters are resolved for a run."""

from pathlib import Path

from runner.manifest import PathRules
from runner.model import ProjectFiles
from runner.source.opening import Source
from runner.source.tree import FilesBeside


def path_rules(source: Source, files: ProjectFiles, storage: Path, mapped: Path | None = None) -> PathRules:
    """Return the rules that resolve parameters that are paths: in the project, or below ``mapped`` in a run folder."""
    project = None if source.frozen else source.project
    return PathRules(
        # A folder of today must not take the place of what was recorded.
        caller=Path.cwd() if source.recorded is None else storage / "caller",
        mapped=mapped or project or storage / source.subdirectory,
        storage=storage,
        project=project,
        repository=source.root if project else None,
        files=with_recorded_names(source, files),
    )


def with_recorded_names(source: Source, files: ProjectFiles) -> ProjectFiles:
    """Return the files of a tree; of a recorded run, with the names of its inputs that are not in the tree."""
    recorded = source.recorded
    if recorded is None:
        return files
    return FilesBeside(files, (*(name for name, _, _ in recorded.inputs), *recorded.folders))
