"""``proj export``: writes a run as one file with all that its reproduction needs."""

from contextlib import closing
from functools import partial
from pathlib import Path

import click
import msgspec

from runner.bundles.content import Choice
from runner.bundles.packages import download_packages
from runner.bundles.signing import sign
from runner.bundles.writing import BundleRequest, write_bundle
from runner.cli import completions
from runner.cli.home import enter_home
from runner.cli.options import OFFLINE, read_size
from runner.cli.output import size
from runner.cli.run_choice import check_target
from runner.cli.text import print_lines, print_message, printable, show_event
from runner.errors import UsageError
from runner.store.database import Database
from runner.store.run_selection import resolve

_SHOWN = 10


@click.command("export")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.option("-o", "--output", "target", required=True, metavar="FILE.zip", help="The file to write.")
@click.option("--with-packages", is_flag=True, help="Add the wheels of the lock, so that no package index is needed.")
@click.option("--include-inputs", "limit", metavar="SIZE", help="Add inputs up to this size, such as 100M.")
@click.option("--no-outputs", is_flag=True, help="Leave the files out that the run made; their digests stay.")
@click.option("--sign", "is_signed", is_flag=True, help="Sign with your key of git: user.signingKey, SSH or GPG.")
@click.option("--key", metavar="FILE", help="Sign with this SSH key.")
@click.option("--force", is_flag=True, help="Replace the file.")
@OFFLINE
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export(run: str, target: str, as_json: bool, **options: str | bool | None) -> int:
    r"""Write RUN as one file: code, environment, parameters, metrics, outputs, log. The same run gives the same bytes.

    The file is an RO-Crate, readable without proj. Inputs outside the code are in it by their digests.

    \b
    Examples:
      proj export latest -o run.zip
      proj export latest -o run.zip --with-packages --include-inputs 100M --sign
    """
    check_target(target, ".zip")
    path = Path(target)
    if path.exists() and not options["force"]:
        raise UsageError(f"There is a file '{printable(target)}' already", hint="--force replaces it.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder '{printable(str(path.parent))}'")
    limit, key = options["limit"], options["key"]
    home = enter_home()
    with closing(Database.open_to_read(home.database)) as database:
        run_id = resolve(database, run, print_message)
    request = BundleRequest(
        run_id=run_id,
        choice=Choice(input_size=read_size(str(limit)) if limit else 0, outputs=not options["no_outputs"]),
        packages=partial(download_packages, run_id, home, report=show_event) if options["with_packages"] else None,
        sign=partial(sign, key=str(key) if key else None) if options["is_signed"] or key else None,
    )
    done = write_bundle(request, home, path)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2))
        return 0
    print_lines(done.path)
    signed = ", signed" if done.signed else ""
    print_message(f"run {run_id[:8]}: {done.files} files, {size(done.size)}{signed}, SHA-256 {done.sha256}")
    for one in done.left_out[:_SHOWN]:
        print_message(f"  not included: {one}")
    if len(done.left_out) > _SHOWN:
        print_message(f"  and {len(done.left_out) - _SHOWN} more; see --json")
    return 0
