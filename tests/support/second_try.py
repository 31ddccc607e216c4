"""Runs failed tests once more, alone: ``python tests/support/second_try.py REPORT``, with pytest's JUnit report.

A test that needs the whole machine can fail beside others. Its name is printed, so that it is not forgotten. More than
`MOST` failures are never tried again.
"""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
MOST = 3
"""Failed tests that are tried again."""


def failed_tests(report: Path, root: Path) -> list[str]:
    """Return the ids of the tests that failed, as pytest takes them.

    Raises:
        LookupError: a failure belongs to no test, for example an error at the import of a test file.
    """
    found = []
    for case in ET.parse(report).iter("testcase"):  # written by pytest a moment before
        if case.find("failure") is None and case.find("error") is None:
            continue
        path = root / f"{case.get('classname', '').replace('.', '/')}.py"
        if not path.is_file():
            raise LookupError(f"{case.get('classname')} {case.get('name')} is no test of a file")
        found.append(f"{path.relative_to(root)}::{case.get('name')}")
    return list(dict.fromkeys(found))


def main(report: Path, root: Path = ROOT) -> int:
    """Try the failed tests of a report again, and return the exit code."""
    failed = failed_tests(report, root)
    if not 0 < len(failed) <= MOST:
        print(f"{len(failed)} tests failed; only 1 to {MOST} are tried again")
        return 1
    print("Failed, and tried once more, alone:", *failed, sep="\n  ", flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", "-m", "", *failed], cwd=root, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
