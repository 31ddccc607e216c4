"""Text from elsewhere on a terminal: nothing in it steers the terminal or turns its letters round."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.text import print_lines, print_message, printable, show_error, show_event
from runner.errors import UsageError
from runner.model import Event, EventKind, RunDetails
from runner.settings import Home
from runner.store import experiments, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from tests.conftest import RunProj

EVIL = "\u202egpj.exe\u2066\u200f\x1b[31m\x9b2J\x07\x08\u2028\ufeff\r"
LETTERS = set(EVIL) - set("gpj.exe[312mJ")


def test_no_output_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_message(f"said {EVIL}")
    show_event(Event(kind=EventKind.WARNING, message=f"event {EVIL}", hint=EVIL))
    show_error(UsageError(f"error {EVIL}", context=f"one {EVIL}\ntwo {EVIL}", hint=EVIL))
    print_lines(f"printed {EVIL}\nbelow\t{EVIL}")
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert not LETTERS & set(text)
        assert "\\u202egpj.exe" in text
    assert shown.out.count("\n") == 2


@pytest.mark.parametrize("words", [["list"], ["show", "latest"], ["experiments", "list"], ["compare", "one", "latest"]])
def test_no_name_steers_the_terminal(proj: RunProj, home: Home, words: list[str]) -> None:
    with closing(Database.open(home.database)) as database:
        runs.create(database, NewRun(name="one"))
        name = EVIL.translate({ord(letter): None for letter in "\x1b\x07\x08\r\x9b"})  # the store refuses the others
        experiment = experiments.create(database, f"e{name}")
        details = RunDetails(command=f"python {EVIL}", entry_point=EVIL, reason=EVIL, notices=(EVIL,), folder=EVIL)
        run_id = runs.create(database, NewRun(name=EVIL, experiment_id=experiment, details=details)).run_id
        values.set_tags(database, run_id, {"t": EVIL})
        values.log_params(database, run_id, [("p", EVIL)])
        values.log_metrics(database, run_id, [Metric(key="m", value=1.0, timestamp=1, step=0)])
    done = proj(*words)
    assert done.code == 0, done.err
    assert "\\u202egpj.exe" in done.out
    assert not LETTERS & set(done.out + done.err)


@given(st.text())
def test_visible_text_is_printable_and_the_same_where_it_was(text: str) -> None:
    shown = printable(text)
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    if text.isprintable():
        assert shown == text
