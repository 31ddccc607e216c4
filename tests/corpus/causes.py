"""Why a project did not reach its end, in words, from what it printed. No rule here names a project."""

import re
from collections.abc import Callable
from typing import NamedTuple

Words = Callable[["re.Match[str]", "Evidence"], str]


class Evidence(NamedTuple):
    """What is known of a failed run: the output of proj and of the command, the files that the project has or lacks."""

    printed: str
    log: str
    files: frozenset[str]
    lacking: tuple[str, ...] = ()


def cause_of_refusal(evidence: Evidence) -> str:
    """Return what proj itself printed when it did not start the command."""
    lines = evidence.printed.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("error[")), None)
    if start is None:
        return f"a fault of proj: {lines[-1] if lines else 'it printed nothing'}"
    rest = lines[start:]
    end = next((number for number, line in enumerate(rest) if line.startswith("run ")), len(rest))
    return " ".join(line.strip() for line in rest[:end])[:600]


def cause_of_failure(evidence: Evidence) -> str:
    """Return why the command ended badly, from the last error that it printed."""
    for pattern, words in RULES:
        found = list(pattern.finditer(evidence.log))
        if found:
            return words(found[-1], evidence)
    errors = re.findall(r"^[\w.]*(?:Error|Exception)\b.*$", evidence.log, re.MULTILINE)
    lines = evidence.log.split("\n")
    return (errors[-1] if errors else next((line for line in reversed(lines) if line.strip()), "it printed nothing"))[
        :300
    ]


def _module(match: "re.Match[str]", evidence: Evidence) -> str:
    name = match["name"]
    top = name.split(".")[0]
    own = [path for path in evidence.files if re.search(rf"(?:^|/){re.escape(top)}(?:\.py|/.*\.py)$", path)]
    if own:
        return f"own module not on the path: {name} (the project has {min(own, key=len)})"
    return f"undeclared dependency: {name}"


def _file(match: "re.Match[str]", evidence: Evidence) -> str:
    path = match["path"]
    name = re.split(r"[/\\]", path)[-1]
    if any(one.split("/")[-1] == name for one in evidence.lacking):
        return f"file missing: {path} (the mirror lacks it)"
    same = [one for one in evidence.files if one.split("/")[-1].lower() == name.lower()]
    where = f" (the project has {min(same, key=len)})" if same else ""
    return f"file missing: {path}{where}"


def _command_file(match: "re.Match[str]", evidence: Evidence) -> str:
    return f"the command names a missing file: {_file(match, evidence).partition(': ')[2]}"


def _host(match: "re.Match[str]", _: Evidence) -> str:
    return f"server not reachable: {match['host']}:{match['port']}"


def _as_said(text: str) -> Words:
    return lambda match, _: f"{text}: {match[0].strip()[:200]}"


RULES: tuple[tuple["re.Pattern[str]", Words], ...] = (
    (re.compile(r"can't open file '(?P<path>[^']+)'"), _command_file),
    (re.compile(r"HTTPS?ConnectionPool\(host='(?P<host>[^']+)', port=(?P<port>\d+)\)"), _host),
    (re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '?(?P<name>[\w.]+)'?"), _module),
    (re.compile(r"(?:No such file or directory|File not found)[^\n]*?'(?P<path>[^'\n]+)'"), _file),
    (re.compile(r"ImportError: [^\n]*"), _as_said("installed packages do not fit together")),
    (
        re.compile(r"JAVA_GATEWAY_EXITED[^\n]*|Java gateway process exited[^\n]*|Unable to locate a Java"),
        _as_said("Java"),
    ),
    (
        re.compile(r"error: (?:unrecognized arguments|the following arguments are required)[^\n]*"),
        _as_said("arguments"),
    ),
    (re.compile(r"[^\n]*: command not found"), _as_said("program missing")),
    (re.compile(r"(?:Mlflow|Rest)Exception: [^\n]*"), _as_said("tracking")),
)
"""In this order; of each pattern the last place counts, as the last error is the one that ended the command."""
