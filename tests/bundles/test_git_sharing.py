"""Runs travel through an ordinary git repository, and nothing else of it changes."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bundles.conftest import Exported
from tests.conftest import RunProj, git

pytestmark = pytest.mark.slow

RUNS = "refs/proj/runs"


@pytest.fixture
def remote(exported_run: Exported, tmp_path: Path) -> Path:
    """Return the bare repository that the project's remote ``origin`` is."""
    bare = tmp_path / "host.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(exported_run.root), str(bare))
    git(exported_run.root, "remote", "add", "origin", str(bare))
    return bare


def state(root: Path) -> str:
    words = ("for-each-ref", "--format=%(refname) %(objectname)")
    return git(root, *words) + git(root, "status", "--porcelain") + (root / ".git" / "config").read_text()


def test_a_run_goes_through_a_git_host_and_is_reproduced_elsewhere(
    proj: RunProj, exported_run: Exported, remote: Path, tmp_path: Path
) -> None:
    root, run_id, _ = exported_run
    here, branches = state(root), git(remote, "for-each-ref", "refs/heads", "refs/tags")
    words = ("push", run_id, "--git", "origin", "--outputs", "--include-inputs", "1M")
    sent = proj(*words, "--json", cwd=root)
    assert sent.code == 0, sent.err
    assert sent.json[0]["ref"] == f"{RUNS}/{run_id}"
    again = proj(*words, "--json", cwd=root)
    assert (again.json[0]["is_new"], again.json[0]["commit"]) == (False, sent.json[0]["commit"])
    assert state(root) == here
    assert git(remote, "for-each-ref", "refs/heads", "refs/tags") == branches
    assert git(remote, "show", f"{RUNS}/{run_id}:code/train.py") == (root / "train.py").read_text().strip()
    there = {"PROJ_HOME": str(tmp_path / "there")}
    pulled = proj("pull", "--git", str(remote), "--json", **there)
    assert [one["change"] for one in pulled.json] == ["added"], pulled.err
    assert proj("pull", "--git", str(remote), "--json", **there).json == []
    assert proj("pull", run_id[:8], "--git", str(remote), "--json", **there).json[0]["change"] == "unchanged"
    done = proj("reproduce", run_id, "--json", **there)
    assert done.json["verdict"] == "identical", done.err


def test_outputs_stay_unless_they_are_asked_for(
    proj: RunProj, exported_run: Exported, remote: Path, tmp_path: Path
) -> None:
    root, run_id, _ = exported_run
    assert proj("push", run_id, "--git", "origin", "--include-inputs", "1M", cwd=root).code == 0
    assert "outputs/" not in git(remote, "ls-tree", "-r", "--name-only", f"{RUNS}/{run_id}")
    there = {"PROJ_HOME": str(tmp_path / "there")}
    assert proj("pull", run_id, "--git", str(remote), **there).code == 0
    assert proj("reproduce", run_id, "--json", **there).json["verdict"] == "identical"  # by their digests
    assert proj("push", run_id, "--git", "origin", "--outputs", cwd=root).code == 0
    names = git(remote, "ls-tree", "-r", "--name-only", f"{RUNS}/{run_id}")
    assert "outputs/out/score.txt" in names
    assert "inputs/" in names  # what was sent before stays


def test_two_people_who_push_at_once_lose_nothing(
    proj: RunProj, exported_run: Exported, remote: Path, tmp_path: Path
) -> None:
    root, run_id, bundle = exported_run
    homes = [{"PROJ_HOME": str(tmp_path / name)} for name in ("one", "two")]
    verdicts = []
    for home in homes:
        assert proj("import", str(bundle), **home).code == 0
        verdicts.append(proj("reproduce", run_id, "--json", **home).json["run_id"])
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(proj, "push", run_id, "--git", str(remote), cwd=root, **home) for home in homes]
        assert [job.result().code for job in jobs] == [0, 0], [job.result().err for job in jobs]
    kept = json.loads(git(remote, "show", f"{RUNS}/{run_id}:verdicts.json"))
    assert {one["run_id"] for one in kept} == set(verdicts)
    assert proj("push", verdicts[0], "--git", str(remote), cwd=root, **homes[0]).code == 0
    assert len(git(remote, "for-each-ref", RUNS).splitlines()) == 2


HOSTILE = {
    "a link": "does not belong",
    "a program": "does not belong",
    "another name": "does not belong",
    "a gitlink": "does not belong",
    "a changed record": "its manifest says",
    "a blob": "it is a blob",
    "another run": "its manifest is that of the run",
    "git folder": "is refused",
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_refs_of_an_attacker_are_refused(
    proj: RunProj, exported_run: Exported, remote: Path, tmp_path: Path, harm: str
) -> None:
    root, run_id, _ = exported_run
    assert proj("push", run_id, "--git", "origin", "--include-inputs", "1M", cwd=root).code == 0
    ref = f"{RUNS}/{run_id}"
    wanted = run_id
    listing = git(remote, "ls-tree", ref)
    blob = stored(remote, b"../../../etc/passwd", "blob")
    if harm == "another run":
        wanted = "ab" * 16
        git(remote, "update-ref", f"{RUNS}/{wanted}", ref)
    elif harm == "a blob":
        git(remote, "update-ref", ref, blob)
    else:
        commit = git(remote, "rev-parse", ref)
        listing += {
            "a link": f"\n120000 blob {blob}\tlogged.json",
            "a program": f"\n100755 blob {blob}\tlogged.json",
            "another name": f"\n100644 blob {blob}\tsetup.py",
            "a gitlink": f"\n160000 commit {commit}\toutputs",
            "a changed record": "",
            "git folder": f"\n040000 tree {git(remote, 'rev-parse', ref + ':code')}\t.GIT",
        }[harm]
        if harm == "a changed record":
            listing = "\n".join(
                line if not line.endswith("\trecord.json") else f"100644 blob {blob}\trecord.json"
                for line in listing.splitlines()
            )
        tree = subprocess.run(
            ["git", "mktree"], cwd=remote, input=f"{listing}\n", text=True, check=True, capture_output=True
        ).stdout.strip()
        made = git(remote, "commit-tree", tree, "-m", git(remote, "log", "-1", "--format=%B", ref))
        git(remote, "update-ref", ref, made)
    there = tmp_path / "there"
    done = proj("pull", wanted, "--git", str(remote), PROJ_HOME=str(there))
    assert (done.code, "error[" in done.err) == (1, True), done.err
    assert HOSTILE[harm] in done.err
    assert not (there / "runs" / wanted).exists()
    assert proj("list", "--all", "--json", PROJ_HOME=str(there)).json == []


def stored(root: Path, content: bytes, kind: str) -> str:
    words = ["git", "hash-object", "-w", "-t", kind, "--stdin"]
    return subprocess.run(words, cwd=root, input=content, check=True, capture_output=True).stdout.decode().strip()


@pytest.mark.parametrize(
    "address", ["http://example.invalid/x.git", "ext::sh -c touch% x", "--upload-pack=x", "nowhere"]
)
def test_addresses_that_are_refused(proj: RunProj, exported_run: Exported, tmp_path: Path, address: str) -> None:
    for words in (("push", exported_run.run_id), ("pull",)):
        done = proj(*words, f"--git={address}", cwd=tmp_path)
        assert done.code in (1, 2), done
        assert "Traceback" not in done.err
    assert not (tmp_path / "x").exists()
