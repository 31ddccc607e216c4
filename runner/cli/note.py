"""``proj note``: shows and changes the note of a run."""

import sys

import click

from runner.base.masking import Masker
from runner.base.tags import NOTE_TAG
from runner.cli import completions
from runner.cli.options import check_text
from runner.cli.output import open_store, read_store
from runner.cli.tag import report_change
from runner.cli.text import print_lines, print_message
from runner.errors import UsageError
from runner.store import runs, values
from runner.store.run_selection import resolve


@click.command("note")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.argument("text", required=False, metavar="[TEXT]")
@click.option("--append", is_flag=True, help="Add TEXT as a new paragraph.")
@click.option("--edit", is_flag=True, help="Write the note in the editor that EDITOR names.")
@click.option("--remove", is_flag=True, help="Remove the note.")
def note(run: str, text: str | None, append: bool, edit: bool, remove: bool) -> None:
    r"""Set the note of RUN to TEXT; without TEXT, print it. TEXT `-` is read from stdin.

    MLflow's pages show the note as the description of the run.

    \b
    Examples:
      proj note latest "the larger forest overfits"
      proj note latest --append "see the confusion matrix"
      proj note latest --edit
      proj note latest
    """
    if (text is not None) + edit + remove > 1 or (append and text is None):
        raise UsageError("Give one of TEXT, --edit and --remove; --append needs TEXT")
    if text is None and not (edit or remove):
        with read_store() as (database, _):
            known = runs.get(database, resolve(database, run, print_message)).tags.get(NOTE_TAG)
        if known:
            print_lines(known)
        else:
            print_message("the run has no note")
        return
    if text == "-":
        text = sys.stdin.read().rstrip("\n")
    with open_store() as (database, _):
        run_id = resolve(database, run, print_message)
        known = runs.get(database, run_id).tags.get(NOTE_TAG)
        if edit:
            text = click.edit(known or "", extension=".md")
            if text is None:
                print_message("the note is unchanged")
                return
            text = text.rstrip("\n")
        if append and known:
            text = f"{known}\n\n{text}"
        if text:
            check_text("tag", "note", text)
            values.set_tags(database, run_id, {NOTE_TAG: Masker().text(text)})
        elif known is not None:
            values.delete_tag(database, run_id, NOTE_TAG)
        report_change(database, run_id, "note changed" if text else "note removed" if known else "it has no note")
