"""Describes the machine that a command ran on."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from runner.errors import ExecutionError
from runner.model import Machine
from runner.process import capture, find_program

_NAMES = frozenset(
    {
        "CUBLAS_WORKSPACE_CONFIG",
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "LANG",
        "LANGUAGE",
        "MKL_CBWR",
        "NVIDIA_VISIBLE_DEVICES",
        "PYTHONHASHSEED",
        "PYTHONOPTIMIZE",
        "PYTHONUTF8",
        "ROCR_VISIBLE_DEVICES",
        "TF_CUDNN_DETERMINISTIC",
        "TF_DETERMINISTIC_OPS",
        "TZ",
    }
)
"""Variables that affect results and contain no secret; ``LC_*`` and ``*_NUM_THREADS`` are recorded too."""
_NVIDIA = Path("/proc/driver/nvidia/gpus")
_PROCESSORS = Path("/proc/cpuinfo")
_HEAD = 4096
_PATIENCE = 5.0


def describe_machine(env: Mapping[str, str]) -> Machine:
    """Describe this machine, and the few variables of a command's environment that may change its results."""
    system = os.uname()
    return Machine(
        host=system.nodename,
        platform="-".join((system.sysname, system.release, system.machine, *_libraries())),
        cpu_count=_cpu_count(),
        processor=_processor(),
        memory=_memory(),
        gpus=_gpus(),
        variables=result_variables(env),
    )


def result_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may change results and contain no secret, sorted by name."""
    return {name: env[name] for name in sorted(env) if _is_recorded(name)}


def with_recorded(env: Mapping[str, str], recorded: Mapping[str, str]) -> Mapping[str, str]:
    """Return variables in which those that affect results are replaced by the recorded ones of another run."""
    return {**{name: value for name, value in env.items() if not _is_recorded(name)}, **recorded}


def _is_recorded(name: str) -> bool:
    return name in _NAMES or name.startswith("LC_") or name.endswith("_NUM_THREADS")


def _libraries() -> tuple[str, ...]:
    """Return the C library with its version in the format of ``platform.platform()``, or None."""
    if sys.platform == "darwin":
        return ()
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        return ()
    return ("with", library.replace(" ", "")) if library else ()


def _cpu_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str | None:
    """Return the model of the first processor, None where the kernel does not name it."""
    try:
        # The file has a part for each processor, which the kernel writes as it is read.
        with _PROCESSORS.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    found = re.search(rb"(?m)^(?:model name|Processor|cpu model)[ \t]*:[ \t]*(\S.*)$", head)
    return found[1].decode("utf-8", "replace").strip() if found else None


def _memory() -> int | None:
    """Return the memory of the machine in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _gpus() -> tuple[str, ...]:
    """Return the names of NVIDIA's devices: from its driver, else from its tool where that is installed."""
    try:
        files = sorted(_NVIDIA.glob("*/information")) if _NVIDIA.is_dir() else []
        lines = [line for file in files for line in file.read_text("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    names = tuple(line.partition(":")[2].strip() for line in lines if line.startswith("Model:"))
    return names or _gpus_by_tool()


def _gpus_by_tool() -> tuple[str, ...]:
    tool = find_program("nvidia-smi")
    if tool is None:
        return ()
    try:
        answer = capture([tool, "--query-gpu=name", "--format=csv,noheader"], timeout=_PATIENCE)
    except (ExecutionError, OSError):
        return ()
    return tuple(answer.text.splitlines()) if answer.exit_code == 0 else ()
