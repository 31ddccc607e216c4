"""The record of the machine."""

import os
import platform
from pathlib import Path

import pytest

from runner.provenance import machine
from runner.provenance.machine import describe_machine


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = describe_machine({})
    assert found.host == platform.node()
    assert found.platform.startswith(f"{platform.system()}-{platform.release()}-{platform.machine()}")
    assert 1 <= found.cpu_count <= (os.cpu_count() or 1)
    assert found.memory is None or found.memory > 100_000_000


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (
            "processor\t: 0\nmodel\t\t: 79\nmodel name\t: Some CPU @ 2.0GHz\n\nmodel name\t: Other\n",
            "Some CPU @ 2.0GHz",
        ),
        ("Processor\t: ARMv7 rev 4\nBogoMIPS\t: 38.4\n", "ARMv7 rev 4"),
        ("processor\t: 0\nmodel name\t: \nBogoMIPS\t: 38.4\n", None),
        (None, None),
    ],
)
def test_the_processor_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, model: str | None
) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(machine, "_PROCESSORS", file)
    assert describe_machine({}).processor == model


def test_processors_are_those_that_may_be_used() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no process to processors")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert describe_machine({}).cpu_count == 1
    finally:
        os.sched_setaffinity(0, before)


def test_only_variables_that_change_results_are_kept() -> None:
    kept = {
        "OMP_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "0",
        "LC_ALL": "C",
        "LANG": "C",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
    }
    left = {"HOME": "/h", "AWS_SECRET_ACCESS_KEY": "x", "USER": "me", "TOKEN": "x", "PATH": "/bin", "LCX": "x"}
    assert describe_machine({**left, **kept}).variables == kept


def test_devices_are_named_by_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for slot in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "information").write_text("Model: \t\t Some Device 9\nIRQ:   \t\t 5\n")
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path)
    assert describe_machine({}).gpus == ("Some Device 9", "Some Device 9")


@pytest.mark.parametrize(("script", "names"), [("echo A 1; echo B 2", ("A 1", "B 2")), ("echo no driver; exit 9", ())])
def test_devices_are_named_by_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, names: tuple[str, ...]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path / "absent")
    assert describe_machine({}).gpus == names
