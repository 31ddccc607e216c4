"""Comparison of numbers, histories and documents, without processes."""

import json
import math
import zipfile
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import RunStatus
from runner.reproduction.documents import compare_content
from runner.reproduction.metrics import MetricsOfRun, compare_metrics
from runner.reproduction.noise import measure_metrics
from runner.reproduction.tolerance import Allowance, Tolerances, compare_numbers
from runner.reproduction.verdict import Verdict, decide, worst
from runner.store.entities import Metric

RULE = (Allowance(rtol=1e-6, source="rule"),)
HUGE = (Allowance(rtol=1e9, atol=1e9, source="huge"),)


@given(st.floats())
def test_a_number_is_identical_to_itself(number: float) -> None:
    verdict, difference, rule = compare_numbers(number, number, ())
    assert (verdict, difference) == (Verdict.IDENTICAL, 0.0)
    assert rule == ("NaN equals NaN" if math.isnan(number) else None)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_two_numbers_are_identical_only_if_their_bits_are(first: float, second: float) -> None:
    is_same = first.hex() == second.hex()
    assert compare_numbers(first, second, ())[0] is (Verdict.IDENTICAL if is_same else Verdict.DIFFERENT)


@given(st.floats(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_no_tolerance_makes_a_special_value_equal_to_another(number: float, special: float) -> None:
    for pair in ((number, special), (special, number)):
        if repr(number) != repr(special):
            assert compare_numbers(*pair, HUGE)[0] is Verdict.DIFFERENT


@pytest.mark.parametrize(("second", "verdict"), [(1 + 1e-7, "within tolerance"), (1 + 1e-5, "different")])
def test_a_rule_allows_its_size(second: float, verdict: str) -> None:
    assert compare_numbers(1.0, second, RULE)[0].value == verdict


def metric(*points: tuple[int, float]) -> MetricsOfRun:
    found = [Metric(key="a", value=value, timestamp=number, step=step) for number, (step, value) in enumerate(points)]
    return MetricsOfRun({"a": points[-1][1]} if points else {}, lambda _name: found)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ([(0, 1.0)], [(0, 1.0)], "identical"),
        ([(0, 1.0), (0, 1.0)], [(0, 1.0)], "identical"),
        ([(0, math.nan), (1, 1.0)], [(0, math.nan), (1, 1.0)], "identical"),
        ([(0, math.nan), (1, 1.0)], [(0, 0.5), (1, 1.0)], "different"),
        ([(0, 2.0), (1, 1.0)], [(0, 3.0), (1, 1.0)], "different"),
        ([(0, 2.0), (1, 1.0)], [(0, 2.0 + 1e-9), (1, 1.0)], "within tolerance"),
        ([(0, 2.0), (1, 1.0)], [(1, 1.0)], "incomplete"),
        ([(0, 2.0), (1, 1.0)], [(0, 3.0), (1, 1.0), (2, 1.0)], "different"),
        ([(0, 1.0)], [], "incomplete"),
    ],
)
def test_the_whole_history_counts(
    first: list[tuple[int, float]], second: list[tuple[int, float]], verdict: str
) -> None:
    rules = Tolerances(given=RULE[0])
    assert [one.verdict.value for one in compare_metrics(metric(*first), metric(*second), rules)] == [verdict]
    assert [one.verdict.value for one in compare_metrics(metric(*second), metric(*first), rules)] == [verdict]


def test_noise_is_the_spread_at_each_place() -> None:
    noise, unstable = measure_metrics(
        [
            {"a": {0: [1.0], 1: [5.0]}, "b": {0: [1.0]}, "c": {0: [1.0]}, "d": {0: [math.nan]}},
            {"a": {0: [1.5], 1: [5.0]}, "b": {1: [1.0]}, "c": {0: [1.0]}, "d": {0: [math.nan]}},
            {"a": {0: [0.5], 1: [5.1]}, "b": {0: [1.0]}, "c": {0: [1.0]}, "d": {0: [math.nan]}},
        ]
    )
    assert noise == {"a": 1.0}
    assert unstable == ["b"]


def archive(**members: str) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, text in members.items():
            opened.writestr(name, text)
    return file.getvalue()


def notebook(text: str, count: int) -> bytes:
    outputs = [{"output_type": "stream", "name": "stdout", "text": text}]
    cell = {"cell_type": "code", "execution_count": count, "metadata": {"t": count}, "source": "x", "outputs": outputs}
    return json.dumps({"cells": [cell], "metadata": {"n": count}, "nbformat": 4, "nbformat_minor": 5}).encode()


CONTENTS = [
    ("a.json", b'{"a": 1, "b": [1.0]}', b'{"b":[1.0],"a":1}', "identical"),
    ("a.json", b'{"a": 1.0}', b'{"a": 1.0000000001}', "within tolerance"),
    ("a.json", b'{"a": 1.0}', b'{"a": 1.1}', "different"),
    ("a.json", b'{"a": 1}', b'{"a": true}', "different"),
    ("a.json", b'{"a": 1}', b'{"a": "1"}', "different"),
    ("a.json", b'{"a": 1}', b'{"a": 1, "b": null}', "different"),
    ("a.json", b'{"a": []}', b'{"a": {}}', "different"),
    ("a.json", b"[]", b"{}", "different"),
    ("a.json", b"{", b"[", None),
    ("a.yaml", b"a: 1\nb: x\n", b"{b: x, a: 1}\n", "identical"),
    ("a.yaml", b"a: 1\n", b"a: 2\n", "different"),
    ("a.csv", b"x,y\n1.0,a\n", b"x,y\n1.00,a\n", "identical"),
    ("a.csv", b"x,y\n1.0,a\n", b"x,y\n1.0000000001,a\n", "within tolerance"),
    ("a.csv", b"x,y\n1.0,a\n", b"x,y\n1.0,b\n", "different"),
    ("a.csv", b"x,y\n1.0,a\n", b"x,z\n1.0,a\n", "different"),
    ("a.csv", b"x\n1\n", b"x\n1\n2\n", "different"),
    ("a.csv", b"x\n007\n", b"x\n7\n", "different"),
    ("a.ipynb", notebook("1", 1), notebook("1", 2), "identical"),
    ("a.ipynb", notebook("1", 1), notebook("2", 1), "different"),
    ("a.zip", archive(a="1", b="2"), archive(b="2", a="1"), "identical"),
    ("a.zip", archive(a="1"), archive(a="2"), "different"),
    ("a.zip", archive(a="1"), archive(a="1", b="1"), "different"),
    ("a.pt", archive(a="1"), b"no archive", None),
    ("a.pkl", b"1", b"2", None),
]


@pytest.mark.parametrize(("name", "first", "second", "verdict"), CONTENTS)
def test_files_are_compared_by_their_meaning(name: str, first: bytes, second: bytes, verdict: str | None) -> None:
    for pair in ((first, second), (second, first)):
        found = compare_content(name, *pair, RULE)
        assert (found.verdict.value if found else None) == verdict


def test_the_member_of_an_archive_that_differs_is_named() -> None:
    found = compare_content("model.pt", archive(a="1", b="2"), archive(a="1", b="3"), ())
    assert found is not None
    assert found.detail == "bytes differ in b"


def test_without_results_there_is_nothing_to_compare() -> None:
    same = (Verdict.IDENTICAL, Verdict.IDENTICAL)
    assert worst(()) is Verdict.NOTHING_TO_COMPARE
    assert decide(RunStatus.FINISHED, RunStatus.FINISHED, same, ()) is Verdict.NOTHING_TO_COMPARE
    assert decide(RunStatus.KILLED, RunStatus.KILLED, same, same) is Verdict.INCOMPLETE
    assert decide(RunStatus.FINISHED, RunStatus.KILLED, same, same) is Verdict.FAILED


@given(st.lists(st.sampled_from(list(Verdict)), min_size=1))
def test_the_whole_is_never_better_than_a_part(parts: list[Verdict]) -> None:
    found = worst(parts)
    assert found in parts
    if found.is_reproduced:
        assert all(one.is_reproduced or one is Verdict.NOTHING_TO_COMPARE for one in parts)


MLMODEL = """\
artifact_path: /home/a/models/m-{id}/artifacts
flavors: {{sklearn: {{sklearn_version: {version}}}}}
model_id: m-{id}
model_uuid: m-{id}
run_id: {id}
utc_time_created: '{id}'
"""


@pytest.mark.parametrize(("version", "verdict"), [("1.5", "identical"), ("1.6", "different")])
def test_an_mlmodel_file_is_compared_without_ids_and_times(version: str, verdict: str) -> None:
    first, second = (MLMODEL.format(id=one, version=kind).encode() for one, kind in (("a1", "1.5"), ("b2", version)))
    found = compare_content("model/MLmodel", first, second, ())
    assert found is not None
    assert (found.verdict.value, found.how) == (verdict, "values of MLmodel without ids and times")


def test_the_path_of_an_older_mlmodel_file_counts() -> None:
    first, second = (f"artifact_path: {name}\nflavors: {{}}\nrun_id: 1\n".encode() for name in ("model", "other"))
    found = compare_content("MLmodel", first, second, ())
    assert found is not None
    assert found.verdict is Verdict.DIFFERENT
    assert compare_content("MLmodel", b"no: model", b"no: other", ()) is None


def skops(address: int, depth: int = 3, weights: tuple[str, str] = ("1", "2")) -> bytes:
    arrays = [{"__id__": address + number, "file": f"{address + number}.npy"} for number in (5, 1)]
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps({"depth": depth, "arrays": arrays, "__id__": address}))
        for node, weight in zip(arrays, weights, strict=True):
            archive.writestr(str(node["file"]), weight)
    return file.getvalue()


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        (skops(2000), "identical"),
        (skops(2000, depth=4), "different"),
        (skops(2000, weights=("2", "1")), "different"),
        (skops(2000, weights=("1", "3")), "different"),
    ],
)
def test_a_skops_file_is_compared_without_addresses_in_memory(second: bytes, verdict: str) -> None:
    found = compare_content("model.skops", skops(1000), second, ())
    assert found is not None
    assert found.verdict.value == verdict
