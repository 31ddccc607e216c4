"""What users of other programs type, and how it is called here: mlflow, dvc, git, uv, conda, guild, and plain words."""

from collections.abc import Collection, Iterable, Mapping

from runner.base.suggestions import near_words

_ALIKE: Mapping[str, tuple[str, ...]] = {
    "proj run": ("start", "launch", "execute", "go", "train", "fit", "submit"),
    "proj list": ("ls", "ll", "runs", "history", "all", "results"),
    "proj list --filter TEXT": ("search", "find", "query", "filter", "where"),
    "proj list --order-by 'metrics.NAME DESC'": ("leaderboard", "best", "top-runs", "sort", "rank"),
    "proj list --tree": ("tree", "children", "nested"),
    "proj show RUN": ("describe", "info", "inspect", "details", "view", "get-run"),
    "proj show latest": ("latest", "last"),
    "proj log RUN": ("logs", "output", "stdout", "console"),
    "proj log -f RUN": ("tail", "follow", "watch", "attach"),
    "proj get RUN": ("artifacts", "download", "cp", "fetch", "files", "outputs", "cat"),
    "proj ps": ("jobs", "running", "top", "queue", "active"),
    "proj stop RUN": ("kill", "cancel", "abort", "terminate", "interrupt"),
    "proj run --resume RUN": ("resume", "continue"),
    "proj rerun RUN": ("retry", "repeat", "again", "restart"),
    "proj reproduce RUN": ("replicate", "verify-run"),
    "proj rm RUN": ("delete", "del", "erase", "drop"),
    "proj restore RUN": ("undelete", "undo", "recover", "unrm"),
    "proj trash empty": ("gc", "clean", "cleanup", "purge", "empty"),
    "proj rename RUN NAME": ("mv", "name"),
    "proj tag RUN NAME=VALUE": ("label", "tags", "set-tag"),
    "proj note RUN TEXT": ("comment", "notes", "annotate", "message"),
    "proj metrics RUN": ("metric", "scalars"),
    "proj list --columns 'params.*'": ("params", "parameters", "param"),
    "proj plot METRIC": ("graph", "chart", "curve", "curves", "plots", "draw"),
    "proj compare RUN RUN": ("cmp", "versus", "comparison"),
    "proj report -o FILE.html": ("html", "summary", "publish"),
    "proj experiments list": ("experiment",),
    "proj models list": ("model", "registry", "register", "model-registry"),
    "proj server": ("serve", "daemon", "host"),
    "proj token list": ("tokens", "auth", "login", "users"),
    "proj push": ("upload", "send", "share"),
    "proj pull": ("receive", "clone-runs"),
    "proj import FOLDER": ("migrate", "load", "ingest"),
    "proj new NAME": ("create", "template", "templates", "scaffold", "cookiecutter", "generate"),
    "proj check": ("validate", "lint", "doctor"),
    "proj verify": ("fsck", "repair", "integrity"),
    "proj lock": ("freeze", "compile", "resolve", "pin", "relock"),
    "proj lock --upgrade": ("upgrade", "outdated", "bump"),
    "proj remove PKG": ("uninstall",),
    "proj env list": ("envs", "environments", "environment", "conda"),
    "proj env prune": ("prune",),
    "proj env path": ("venv", "which"),
    "proj shell": ("activate", "sh", "bash"),
    "proj exec -- COMMAND": ("tool", "cmd"),
    "proj exec -- python -m pytest": ("test", "pytest"),
    "proj exec -- jupyter lab": ("notebook", "jupyter", "lab"),
    "proj checkout RUN FOLDER": ("clone", "export-code", "code", "switch"),
    "proj --help": ("help", "man", "usage", "commands"),
    "proj --version": ("version",),
}
"""Commands of proj, each with the words that mean the same elsewhere."""

_EXPLAINED: Mapping[str, str] = {
    "ui": "`proj list`, `proj plot METRIC` and `proj report -o FILE.html` show runs.",
    "status": "`proj ps` lists what is running, `proj list` what has run, `proj show RUN` one run.",
    "init": "`proj run . -e train.py` runs a project as it is; `proj new NAME` creates one from a template.",
    "install": "`proj run` installs the environment by itself; `proj add PKG` adds a package to it.",
    "build": "`proj run` builds the environment by itself; `proj env path` builds it without a run.",
    "exp": "`proj run` runs an experiment, `proj list` shows the runs, `proj experiments list` the experiments.",
    "repro": "`proj run` runs the project; `proj reproduce RUN` runs a recorded run again and compares the results.",
    "pip": "`proj add PKG` adds a package, `proj exec -- python -m pip list` lists them.",
    "commit": "`proj run` records the code as it is, also without a commit.",
    "save": "`proj run` records code, environment, parameters and results by itself.",
    "track": "`proj run` records metrics that the code logs, and inputs that MLproject declares.",
    "sweep": "A sweep is a loop: for a in 0.1 0.5; do proj run . -P alpha=$a; done; proj list",
    "hpo": "A sweep is a loop: for a in 0.1 0.5; do proj run . -P alpha=$a; done; proj list",
    "config": "proj has no settings file: variables such as PROJ_HOME and options of the commands say all.",
    "dag": "The entry points of MLproject are the steps; a script that calls `proj run -e STEP` joins them.",
    "stage": "`proj models stage` sets the stage of a model version; the entry points of MLproject are the steps.",
    "gui": "`proj list`, `proj plot METRIC` and `proj report -o FILE.html` show runs.",
    "web": "`proj report -o FILE.html` writes a page; `proj server` serves runs to MLflow clients.",
    "dashboard": "`proj list`, `proj plot METRIC` and `proj report -o FILE.html` show runs.",
    "tensorboard": "`proj plot METRIC` draws curves; `proj exec -- tensorboard --logdir DIR` starts it.",
    "predict": "`proj run . -e ENTRY_POINT` runs any entry point; `proj get RUN` copies a model.",
    "deploy": "`proj models register` and `proj models alias` name the model to use; `proj get RUN` copies it.",
}

_EXPLAINED_OPTIONS: Mapping[str, str] = {
    "--no-conda": "`--env-manager local` uses the Python on PATH.",
    "--backend": "`--env-manager` chooses how the environment is made; runs are executed on this machine.",
    "--build-image": "`--env-manager container` runs in a container; its image is built if it has changed.",
    "--skip-env": "`--env-manager local` uses the Python on PATH.",
}
"""Options of other programs for which proj has an option with a certain value."""

_SUBCOMMANDS = (
    {"list", "ls", "all", "search"},
    {"show", "describe", "info", "get", "inspect"},
    {"delete", "rm", "remove", "prune", "revoke", "empty", "clean", "gc", "del"},
    {"create", "new", "add", "register", "init"},
    {"restore", "undelete", "undo"},
    {"rename", "mv"},
    {"verify", "check", "test"},
    {"export", "freeze", "lock"},
)
"""Names of subcommands that mean the same, in any program."""

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "--run-name": ("--name", "-n", "--title", "--label"),
    "-e": ("--entry", "--entrypoint", "--script", "--main", "--step", "--stage"),
    "-P": ("-p", "-S", "--param", "--params", "--parameter", "--parameters", "--set-param", "--set", "-D"),
    "--version": ("--ref", "--rev", "--revision", "--branch", "--commit", "-b"),
    "--order-by": ("--sort", "--sort-by", "--order", "-s", "-o"),
    "--limit": ("--max", "--max-results", "--num", "--number", "-k", "--top", "--head", "--count"),
    "--filter": ("--where", "--query", "--search", "-q", "--filter-string", "-F"),
    "--json": ("--format", "--output-format"),
    "--output": ("--out", "--file", "--to"),
    "--to": ("--output", "--out", "--dest", "--destination", "--target", "-d", "-o"),
    "--yes": ("--force", "--assume-yes", "--no-confirm", "--no-input", "-f"),
    "--detach": ("--background", "--bg", "-d", "--daemon", "--async"),
    "--follow": ("--tail", "-F", "--watch"),
    "--env-manager": ("--env", "--manager", "--env-type", "--venv", "--conda"),
    "--dry-run": ("--dry", "--plan", "--simulate", "--pretend"),
    "--all": ("-a", "--global", "--everywhere"),
    "--columns": ("--cols", "--fields", "--only-changed", "-c"),
    "--experiment": ("--experiment-name", "--exp", "-x"),
    "--in-place": ("--inplace", "--no-copy", "--local", "--here"),
    "--tracking-uri": ("--backend-store-uri", "--server", "--url", "--uri", "--remote"),
    "--timeout": ("--time-limit", "--max-time", "-t"),
    "--note": ("--message", "-m", "--comment", "--description", "--desc"),
    "--experiment-name": ("--exp", "-x"),
    "--param-list": ("--arg", "--args"),
    "--resume": ("--continue", "--restore", "--checkpoint"),
    "--no-tty": ("--no-terminal", "--plain"),
    "--older-than": ("--before", "--age", "--until"),
    "--permanently": ("--force", "--purge", "--hard"),
}
"""Options of proj, each with the names that mean the same elsewhere."""


def command_hint(word: str, known: Iterable[str]) -> str | None:
    """Return what to type instead of an unknown command: for a synonym its command, else names like it."""
    lower = word.lower()
    explained = _EXPLAINED.get(lower)
    if explained is not None:
        return explained
    meant = next((command for command, words in _ALIKE.items() if lower in words), None)
    if meant is not None:
        return f"It is `{meant}` here."
    return _did_you_mean(near_words(word, known, most=2))


def subcommand_hint(word: str, known: Collection[str]) -> str:
    """Return what to type instead of an unknown subcommand: one that means the same or is like it, else all of them."""
    lower = word.lower()
    alike = [name for names in _SUBCOMMANDS if lower in names for name in known if name in names]
    near = _did_you_mean(alike[:1] or near_words(word, known, most=2))
    return near or f"There {'is' if len(known) == 1 else 'are'} {', '.join(known)}."


def option_hint(option: str, known: Collection[str]) -> str | None:
    """Return what to type instead of an unknown option: one that means the same, begins alike, or is spelt alike."""
    explained = _EXPLAINED_OPTIONS.get(option)
    if explained is not None and explained.partition(" ")[0].strip("`") in known:
        return explained
    meant = [name for name, others in _OPTIONS.items() if option in others and name in known]
    if meant:
        return f"It is {' or '.join(meant)} here."
    word, long = option.lstrip("-"), [name[2:] for name in known if name.startswith("--")]
    begun = [name for name in long if len(word) > 1 and name.startswith(word)]
    near = begun[:3] or near_words(word, long, most=2, cutoff=0.65)
    return _did_you_mean(f"--{name}" for name in near)


def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Return each command that stands for words of other programs, with these words."""
    return _ALIKE


def _did_you_mean(near: Iterable[str]) -> str | None:
    names = " or ".join(near)
    return f"Did you mean {names}?" if names else None
