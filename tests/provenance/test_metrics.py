"""Metrics from files."""

import math
import os
from pathlib import Path

import pytest

from runner.model import Event, MetricsFile
from runner.provenance.metrics import read_metrics_files, read_metrics_log
from tests.conftest import write_tree


@pytest.fixture
def events() -> list[Event]:
    return []


def test_lines_are_values(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "metrics"
    path.write_text(
        "rmse=0.5\n\n# a remark\n loss = 1e-3 \nloss=2 step=7\nloss=3\r\n"
        '{"name": "auc", "value": 0.9, "step": 3}\n{"name": "auc", "value": "0.95"}\n'
        '{"a": 1, "b": {"c": 2.5}, "step": 4}\n'
        "snö/x y=-inf\n"
    )
    assert read_metrics_log(path, events.append) == [
        ("rmse", 0.5, 0),
        ("loss", 0.001, 0),
        ("loss", 2.0, 7),
        ("loss", 3.0, 8),
        ("auc", 0.9, 3),
        ("auc", 0.95, 4),
        ("a", 1.0, 4),
        ("b.c", 2.5, 4),
        ("snö/x y", -math.inf, 0),
    ]
    assert events == []


@pytest.mark.parametrize("other", [b"", b"raw-\xff=1", b"caf\xe9=1", b"\x80\x85", b"{\xff", b"\xed\xa0\x80=1"])
@pytest.mark.parametrize(
    "name", ["\u00e9", "e\u0301", "\u00c5", "a\u2028b", "a\u0085b", "a\x0cb", "\u202efdp", "\U0001f600"]
)
def test_a_line_in_another_encoding_leaves_the_names_of_others(
    tmp_path: Path, events: list[Event], name: str, other: bytes
) -> None:
    content = b"\n".join((f"{name}=1".encode(), other, f"{name}=2\r\n{name}=3\r".encode()))
    (tmp_path / "metrics").write_bytes(content)
    values = [found for found in read_metrics_log(tmp_path / "metrics", events.append) if found[0] == name]
    assert values == [(name, 1, 0), (name, 2, 1), (name, 3, 2)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_whole_file_may_have_another_encoding(tmp_path: Path, events: list[Event], encoding: str) -> None:
    (tmp_path / "metrics").write_bytes("loss=1\nsnö=2\n".encode(encoding))
    assert read_metrics_log(tmp_path / "metrics", events.append) == [("loss", 1, 0), ("snö", 2, 0)]
    assert events == []


def test_not_a_number_is_a_value(tmp_path: Path, events: list[Event]) -> None:
    (tmp_path / "metrics").write_text('x=nan\n{"y": NaN}\n')
    values = read_metrics_log(tmp_path / "metrics", events.append)
    assert [(name, math.isnan(value)) for name, value, _ in values] == [("x", True), ("y", True)]


def test_faulty_lines_are_reported_and_skipped(tmp_path: Path, events: list[Event]) -> None:
    lines = [
        "good=1",
        "hello",
        "x=abc",
        "{broken",
        '{"a": "text"}',
        '{"name": "n", "value": true}',
        "=3",
        '{"a": 1, "step": "s"}',
    ]
    (tmp_path / "metrics").write_bytes("\n".join([*lines, "last=2"]).encode() + b"\xff")
    assert read_metrics_log(tmp_path / "metrics", events.append) == [("good", 1.0, 0)]
    assert len(events) == 6
    assert events[0].message == "line 2 of PROJ_METRICS is no metric: hello"
    assert events[-1].message == "and 3 more faults like these"


@pytest.mark.parametrize(
    "line", ["\u2028" * 400_000 + "x", "x" + " " * 400_000 + "x", "=" * 400_000, "a=" + "," * 400_000]
)
def test_a_long_line_takes_no_time(tmp_path: Path, events: list[Event], line: str) -> None:
    (tmp_path / "m").write_text(line, encoding="utf-8")
    assert read_metrics_log(tmp_path / "m", events.append) == []  # the time limit of a test is far beyond


def test_no_file_is_no_metric_and_no_fault(tmp_path: Path, events: list[Event]) -> None:
    assert read_metrics_log(tmp_path / "metrics", events.append) == []
    assert events == []


def test_a_pipe_is_not_waited_for(tmp_path: Path, events: list[Event]) -> None:
    os.mkfifo(tmp_path / "metrics")
    assert read_metrics_log(tmp_path / "metrics", events.append) == []
    assert read_metrics_files(tmp_path, [MetricsFile(path="metrics")], events.append) == []
    assert [event.message for event in events] == ["PROJ_METRICS: is not a file", "metrics file metrics: is not a file"]


def test_files_of_each_form_are_read(tmp_path: Path, events: list[Event]) -> None:
    files = {
        "a.json": '{"rmse": 0.5, "ok": true, "model": "rf", "by": {"fold": [0.1, 0.2]}, "digest": "12e45"}',
        "b.yaml": "mae: 1e-5\nr2: 0.9\nstep: 3\nnested:\n  x: 7\n",
        "c.csv": "epoch,loss,note\n1,0.5,a\n2,0.25,b\n\n",
        "d.tsv": "acc\tf1\n0.5\t0.75\n",
        "sub/e.txt": '{"plain": 4}',
    }
    write_tree(tmp_path, files)
    found = read_metrics_files(tmp_path, [MetricsFile(path=name) for name in files], events.append)
    assert found == [
        *[("rmse", 0.5, 0), ("by.fold.0", 0.1, 0), ("by.fold.1", 0.2, 0)],
        *[("mae", 1e-5, 3), ("r2", 0.9, 3), ("nested.x", 7.0, 3)],
        *[("loss", 0.25, 2), ("acc", 0.5, 0), ("f1", 0.75, 0), ("plain", 4.0, 0)],
    ]
    assert events == []


def test_one_name_in_two_files_stays_two_metrics(tmp_path: Path, events: list[Event]) -> None:
    write_tree(tmp_path, {"train.json": '{"rmse": 1}', "test.json": '{"rmse": 2}'})
    files = [MetricsFile(path="train.json"), MetricsFile(path="test.json")]
    assert read_metrics_files(tmp_path, files, events.append) == [("rmse", 1.0, 0), ("test.rmse", 2.0, 0)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "the command did not write it"),
        ("{", "Expecting"),
        ("3", "no names"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_make_no_sense_are_reported(
    tmp_path: Path, events: list[Event], content: str | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "m.json").write_text(content)
    assert read_metrics_files(tmp_path, [MetricsFile(path="m.json")], events.append) == []
    assert len(events) == 1
    assert events[0].message.startswith("metrics file m.json: ")
    assert complaint in events[0].message


def test_yaml_that_makes_no_sense_is_reported(tmp_path: Path, events: list[Event]) -> None:
    (tmp_path / "m.yaml").write_text("a: [\n")
    assert read_metrics_files(tmp_path, [MetricsFile(path="m.yaml")], events.append) == []
    assert "not YAML" in events[0].message
    (tmp_path / "m.yaml").write_text("a: &x {b: *x}\nc: 1\n")
    assert read_metrics_files(tmp_path, [MetricsFile(path="m.yaml")], events.append) == []
    assert "contains itself" in events[1].message


def test_a_command_that_failed_owes_no_file_but_what_it_wrote_is_read(tmp_path: Path, events: list[Event]) -> None:
    (tmp_path / "early.json").write_text('{"loss": 2}')
    files = [MetricsFile(path="early.json"), MetricsFile(path="late.json")]
    assert read_metrics_files(tmp_path, files, events.append, all_due=False) == [("loss", 2.0, 0)]
    assert not events
    assert read_metrics_files(tmp_path, files, events.append) == [("loss", 2.0, 0)]
    assert "late.json" in events[0].message
