"""What counts as a recorded difference: machines, environments without a lock, threads, one-sided values."""

from msgspec import structs

from runner.explanation.differences import Side, differences_between
from runner.model import EnvironmentRecord, Machine, RunRecord
from runner.settings import Home

MACHINE = Machine(host="a", platform="Linux-6", cpu_count=2, processor="One", variables={"TZ": "UTC"})
LOCAL = EnvironmentRecord(manager="local", python="3.11.1", packages=(("Six", "1"), ("same", "1")))
EMPTY = RunRecord(**dict.fromkeys(RunRecord.__struct_fields__))


def side(machine: Machine | None, environment: EnvironmentRecord | None, lock: str | None = None) -> Side:
    record = structs.replace(EMPTY, machine=machine, environment=environment, parameters=(), inputs=(), tags={})
    return Side(record=record, lock=lock, inputs={}, parameters={})


def named(first: Side, second: Side, home: Home) -> dict[tuple[str, str], bool]:
    found = differences_between(first, second, {}, home)
    return {(one.kind.value, one.name): one.fixed is None for one in found}


def test_nothing_differs_from_itself(home: Home) -> None:
    assert named(side(MACHINE, LOCAL), side(MACHINE, LOCAL), home) == {}
    assert named(side(None, None), side(MACHINE, LOCAL), home) == {
        ("package", "same"): False,
        ("package", "six"): False,
        ("variable", "TZ"): True,
    }


def test_what_can_not_be_swapped_is_marked(home: Home) -> None:
    other = structs.replace(MACHINE, processor="Two", cpu_count=4, variables={"TZ": "CET", "OMP_NUM_THREADS": "2"})
    changed = structs.replace(LOCAL, python="3.12.0", packages=(("six", "2"), ("same", "1")))
    assert named(side(MACHINE, LOCAL), side(other, changed), home) == {
        ("package", "six"): False,
        ("interpreter", "python"): False,
        ("variable", "TZ"): True,
        ("threads", "OMP_NUM_THREADS"): True,
        ("machine", "processor"): False,
        ("threads", "processors"): False,
    }


def test_what_was_not_recorded_is_not_known_to_differ(home: Home) -> None:
    assert named(side(structs.replace(MACHINE, processor=None), LOCAL), side(MACHINE, LOCAL), home) == {}


def test_packages_of_locks_can_be_swapped(home: Home) -> None:
    built = EnvironmentRecord(manager="uv", python="3.11.1")
    locks = [f"six=={version} \\\n    --hash=sha256:{'a' * 64}\n" for version in (1, 2)]
    first, second = side(MACHINE, built, locks[0]), side(MACHINE, structs.replace(built, python="3.12.0"), locks[1])
    assert named(first, second, home) == {("package", "six"): True, ("interpreter", "python"): True}
