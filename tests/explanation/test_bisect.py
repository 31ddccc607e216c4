"""`proj bisect`: the first bad commit, skipped commits, merges, and a working tree that stays as it is."""

import hashlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.explanation.bisection import parse_condition
from tests.conftest import MakeRepository, RunProj, git, write_tree

LOCAL = ("--env-manager", "local")
MANIFEST = "name: t\nentry_points:\n  main:\n    command: python train.py\n"


def script(value: str) -> str:
    return f"import os\nopen(os.environ['PROJ_METRICS'], 'a').write('rmse={value}\\n')\n"


def commit(root: Path, number: int, content: str) -> str:
    write_tree(root, {"train.py": content, "number.txt": str(number)})
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", f"--message=change {number}")
    return git(root, "rev-parse", "HEAD")


def state(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_the_first_bad_commit_is_found_and_failing_commits_are_skipped(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    root = make_repository({"MLproject": MANIFEST, "train.py": script("0.5")})
    commits = [git(root, "rev-parse", "HEAD")]
    for number in range(1, 12):
        content = script("0.5" if number < 8 else "0.9") if number != 6 else "raise SystemExit(3)\n"
        commits.append(commit(root, number, content))
    write_tree(root, {"train.py": "edited, not committed", "new.txt": "untracked"})
    before = state(root)
    done = proj("bisect", commits[0], "HEAD", "--metric", "rmse", "> 0.8", "--json", *LOCAL, cwd=root)
    found = done.json
    assert (done.code, found["first_bad"]) == (0, commits[8]), done.err
    assert found["summary"]["subject"] == "change 8"
    assert {one["path"] for one in found["files"]} == {"train.py", "number.txt"}
    assert len(found["steps"]) <= 7
    assert {one["verdict"] for one in found["steps"]} <= {"good", "bad", "skipped"}
    assert state(root) == before
    count = len(proj("list", "--json", "--all", cwd=root).json)
    again = proj("bisect", commits[0][:10], "main", "--metric", "rmse", "> 0.8", *LOCAL, cwd=root)
    assert f"{commits[8]} is the first commit with rmse > 0.8" in again.out
    assert "change 8 (Tester" in again.out
    failed = sum(one["verdict"] == "skipped" for one in found["steps"])
    assert len(proj("list", "--json", "--all", cwd=root).json) == count + failed
    assert len(proj("list", "--all", "--columns", "run", cwd=root).out.split()) < count


@pytest.mark.slow
def test_skipped_commits_beside_the_first_bad_one_are_candidates(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    root = make_repository({"MLproject": MANIFEST, "train.py": script("nan")})
    commits = [git(root, "rev-parse", "HEAD")]
    contents = [script("0.5"), "raise SystemExit(3)\n", "print('no metric')\n", script("0.9")]
    commits += [commit(root, number, content) for number, content in enumerate(contents, 1)]
    done = proj("bisect", commits[0], commits[4], "--metric", "rmse", ">=0.9", "--json", *LOCAL, cwd=root)
    assert (done.code, done.json["first_bad"]) == (1, None)
    assert set(done.json["candidates"]) == set(commits[2:])


@pytest.mark.slow
def test_of_two_merged_branches_the_bad_commit_is_found(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": MANIFEST, "train.py": script("0.5")})
    first = git(root, "rev-parse", "HEAD")
    git(root, "checkout", "--quiet", "-b", "side")
    write_tree(root, {"side.txt": "1"})
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=side")
    git(root, "checkout", "--quiet", "main")
    commit(root, 1, script("0.6"))
    bad = commit(root, 2, script("0.95"))
    git(root, "merge", "--quiet", "--no-ff", "--message=merged", "side")
    done = proj("bisect", first, "HEAD", "--metric", "rmse", "> 8e-1", "--json", *LOCAL, cwd=root)
    assert done.json["first_bad"] == bad, done.err


@pytest.mark.slow
def test_ends_that_are_not_as_said_are_refused(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": MANIFEST, "train.py": script("0.5")})
    first = git(root, "rev-parse", "HEAD")
    last = commit(root, 1, script("0.6"))
    cases = {(first, last): (1, "0.6"), (last, first): (2, "is not before"), ("nope", last): (1, "nope")}
    for ends, (code, word) in cases.items():
        done = proj("bisect", *ends, "--metric", "rmse", "> 0.8", *LOCAL, cwd=root)
        assert (done.code, word in done.err) == (code, True), done.err


@given(st.sampled_from(["<", ">", "<=", ">=", "==", "=", "!="]), st.floats(allow_nan=False, allow_infinity=False))
def test_each_comparison_is_read_as_it_is_written(sign: str, number: float) -> None:
    condition = parse_condition("rmse", f" {sign} {number!r}")
    assert condition.is_met(number) == (sign in ("<=", ">=", "==", "="))
    assert not condition.is_met(float("nan")) or sign == "!="


@given(st.text(max_size=12))
def test_no_text_makes_another_error(text: str) -> None:
    with suppress(UsageError):
        assert parse_condition("rmse", text).sign in text


@pytest.mark.parametrize("text", ["", "0.8", ">", "> a", "> 0.8 0.9", "<> 1", "=> 1", "> nan", "> inf", ">>1"])
def test_what_is_no_comparison_with_a_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a condition"):
        parse_condition("rmse", text)
