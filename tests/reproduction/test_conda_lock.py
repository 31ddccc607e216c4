"""A run in a conda environment is run again with the packages that it had."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from runner.settings import Home
from tests.conftest import MakeRepository, RunProj
from tests.support.conda_channel import Package, interpreter, make_channel, python_package

pytest.importorskip("rattler", reason="py-rattler is not installed")
pytestmark = pytest.mark.slow

LINE = "{}.{}".format(*sys.version_info)
PROJECT = {
    "MLproject": "name: c\nconda_env: environment.yml\nentry_points:\n  main: {command: python t.py}\n",
    "t.py": "import hello, os\nopen(os.environ['PROJ_METRICS'], 'a').write(f'word={hello.WORD}\\n')\n",
}


def hello(version: str) -> Package:
    return python_package("hello", {"hello.py": f"WORD = {version}\n"}, version=version)


def test_the_recorded_lock_is_used_and_its_damage_is_named(
    proj: RunProj, home: Home, make_repository: MakeRepository, tmp_path: Path
) -> None:
    channel = tmp_path / "channel"
    make_channel(channel, interpreter(), hello("1"))
    file = f"name: c\nchannels: [{channel.as_uri()}]\ndependencies: [python={LINE}, hello]\n"
    root = make_repository({**PROJECT, "environment.yml": file})
    before = proj("run", ".", "--env-manager", "conda", "--as-of", "now", "--json", cwd=root).json
    assert before["metrics"] == {"word": 1.0}
    shutil.rmtree(channel)
    make_channel(channel, interpreter(), hello("1"), hello("2"))
    shutil.rmtree(home.locks)  # otherwise the stored lock of the same file would be used
    digest = before["environment"]["lock_digest"]
    again = proj("rerun", before["run_id"], "--json")
    assert (again.json["metrics"], again.json["environment"]["lock_digest"]) == ({"word": 1.0}, digest)
    assert proj("reproduce", before["run_id"], "--json").json["verdict"] == "identical"
    lock = home.lock(before["run_id"])
    assert lock is not None
    lock.write_text(re.sub(r"sha256: [0-9a-f]{4}", "sha256: 0000", lock.read_text()))
    for command in ("rerun", "reproduce"):
        refused = proj(command, before["run_id"])
        assert refused.code == 1
        assert "The lock of the run was changed since" in refused.out + refused.err
