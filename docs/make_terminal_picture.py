"""Generates ``docs/_static/terminal.svg`` from a real session: ``python docs/make_terminal_picture.py``.

The session runs in a small project that needs no package, with a temporary home. Needs git.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "_static" / "terminal.svg"
WIDTH = 112
MANIFEST = """\
name: churn
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
    command: python train.py {alpha}
"""
ENVIRONMENT = f'python: "{sys.version_info.major}.{sys.version_info.minor}"\n'
SCRIPT = """\
import os, sys
alpha, penalty = float(sys.argv[1]), 0.2
rmse = 0.7 + penalty * (alpha - 0.3) ** 2
with open(os.environ["PROJ_METRICS"], "a") as file:
    file.write(f"rmse={rmse:.4f}\\n")
"""
SESSION = (
    "proj run . -P alpha=0.5",
    "sed -i 's/0[.]2$/0.1/' train.py",
    "proj run . -P alpha=0.1",
    "proj list --columns run,status,code,params.alpha,metrics.rmse",
    "proj compare {first} latest",
    "proj diff latest",
)


def run(command: str, folder: Path, variables: dict[str, str]) -> str:
    """Return what a command prints on both streams.

    Raises:
        subprocess.CalledProcessError: its exit code is not 0.
    """
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def make_project(folder: Path, variables: dict[str, str]) -> None:
    """Write the project and commit it."""
    folder.mkdir()
    (folder / "MLproject").write_text(MANIFEST, encoding="utf-8")
    (folder / "python_env.yaml").write_text(ENVIRONMENT, encoding="utf-8")
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    run("git init -q -b main && git add -A && git commit -q -m 'Train the model'", folder, variables)


def record_session(temporary: Path) -> Console:
    """Run the session and return a console that has recorded it."""
    author = {f"GIT_{role}_{key}": "proj" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    variables = {**os.environ, **author, "PATH": path, "PROJ_HOME": str(temporary / "home"), "COLUMNS": str(WIDTH)}
    project = temporary / "churn"
    make_project(project, variables)
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    first = ""
    for command in SESSION:
        typed = command.format(first=first)
        output = run(typed, project, variables)
        first = first or run("proj list --json -n 1", project, variables).split('"run_id":')[1].split('"')[1][:8]
        console.print(Text.assemble(("$ ", "bold green"), (typed, "bold")))
        console.print(Text.from_ansi(output.rstrip("\n")) if output else Text(), end="\n\n" if output else "")
    return console


def make_picture() -> str:
    """Run the session in a temporary folder and return it as SVG."""
    with tempfile.TemporaryDirectory() as temporary:
        console = record_session(Path(temporary))
    picture = console.export_svg(title="proj", unique_id="proj")
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # no host is contacted for a font
    return re.sub(r"[ \t]+$", "", picture, flags=re.MULTILINE)


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(make_picture(), encoding="utf-8")
