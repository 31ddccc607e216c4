"""Reports what influences the results of a run and is not declared, with the lines that would declare it."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import msgspec

from runner.base.files import open_regular
from runner.model import Event, EventKind
from runner.observed import InputRole, ObservedInput
from runner.provenance.outputs import kept_as
from runner.record import RunRecorder
from runner.run_inputs import declaring_hint, listed

MOST_SEARCHED = 20
"""Outputs that are searched for times."""
_LARGEST = 1 << 20
"""Bytes of an output that are searched."""
_MARGIN = timedelta(minutes=1)
_TIME = r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?"
_SEEDS = re.compile(r"\bseed\w*\s*\(|\w*_seed\w*\s*\(|\bRandomState\s*\(\s*\S")
_RANDOM = re.compile(
    r"\brandom\.(?:random|rand(?:int|range|bytes)|uniform|choices?|shuffle|sample|gauss|[a-z]+variate|getrandbits)\s*\("
    r"|^\s*from\s+random\s+import\b",
    re.MULTILINE,
)
_UNSEEDED_GENERATOR = re.compile(r"\bdefault_rng\s*\(\s*\)")


def report_influences(
    recorder: RunRecorder, inputs: Sequence[ObservedInput], unseeded: Collection[str], started_at: int, most: int
) -> None:
    """Report undeclared influences as notices, at most ``most``; ``started_at`` is in milliseconds since 1970."""
    every = (
        *_outside_files(recorder, inputs),
        *_addresses(inputs),
        *_random_numbers(recorder, unseeded),
        *_times(recorder, started_at),
    )
    for message, hint in every[:most]:
        recorder.report(Event(kind=EventKind.NOTICE, message=message, hint=hint))


def _outside_files(recorder: RunRecorder, inputs: Sequence[ObservedInput]) -> Iterator[tuple[str, str | None]]:
    hidden = os.path.join(os.path.expanduser("~"), ".")  # noqa: PTH111, PTH118  a text is compared
    roles = (InputRole.OUTSIDE, InputRole.DATABASE)
    names = [
        one.path
        for one in inputs
        if one.role in roles and one.path.startswith("/") and "declared" not in one.seen
        if not one.path.startswith(hidden)
    ]
    if names:
        hint = declaring_hint(recorder.plan, names) or "an entry point in an MLproject file declares them as `inputs`"
        yield f"The command opened {listed(names)}, outside the project and not declared", hint


def _addresses(inputs: Sequence[ObservedInput]) -> Iterator[tuple[str, str | None]]:
    names = [one.path for one in inputs if one.role is InputRole.ADDRESS]
    if names:
        hint = "a file is recorded if a parameter names it: parameters: {data: {type: path, default: 'https://…'}}"
        yield f"The command connected to {listed(names)}; data from there has no digest", hint


def _random_numbers(recorder: RunRecorder, unseeded: Collection[str]) -> Iterator[tuple[str, str | None]]:
    texts = []
    for script in recorder.plan.scripts.found:
        data = recorder.plan.files.read(script.path)
        texts.append((data or b"")[:_LARGEST].decode("utf-8", "replace"))
    is_seeded = any(map(_SEEDS.search, texts))
    found = ["numpy"] if "numpy" in unseeded or any(map(_UNSEEDED_GENERATOR.search, texts)) else []
    if "random" in unseeded and not is_seeded and any(map(_RANDOM.search, texts)):
        found.append("random")
    if found:
        hint = "set a seed from a parameter: parameters: {seed: {type: int, default: 0}}"
        yield f"Random numbers of {' and '.join(found)} were used without a seed; they differ in each run", hint


def _times(recorder: RunRecorder, started_at: int) -> Iterator[tuple[str, str | None]]:
    """Yield the outputs that contain a time at which the run was running, in local time or UTC."""
    ignored = recorder.plan.entry_point.ignore
    names = [one.path for one in recorder.details.outputs[:MOST_SEARCHED] if one.path not in ignored]
    found = [name for name in names if _has_time(recorder, name, started_at)]
    if found:
        rule = msgspec.json.encode({found[0]: _TIME}).decode()
        hint = f"a reproduction does not compare it with ignore: {rule}"
        yield f"The outputs contain the time of the run: {listed(found)}", hint


def _has_time(recorder: RunRecorder, name: str, started_at: int) -> bool:
    text = ""
    with suppress(OSError), open_regular(recorder.plan.home.artifacts(recorder.run_id) / kept_as(name)) as file:
        text = file.read(_LARGEST).decode("utf-8", "replace")
    times = [] if "\0" in text else list(_parsed(set(re.findall(_TIME, text))))
    wall = recorder.details.resources.wall_seconds if recorder.details.resources else 0.0
    for zone in (timezone.utc, None):  # None: the local time
        start = datetime.fromtimestamp(started_at / 1000, timezone.utc).astimezone(zone).replace(tzinfo=None)
        low, high = start - _MARGIN, start + _MARGIN + timedelta(seconds=wall)
        if any(low <= when <= high for when in times):
            return True
    return False


def _parsed(texts: Collection[str]) -> Iterator[datetime]:
    for text in texts:
        with suppress(ValueError):  # a text such as 2024-99-99 00:00 is no time
            yield datetime.strptime(text[:16].replace("T", " "), "%Y-%m-%d %H:%M")  # noqa: DTZ007  compared as text
