"""``proj completion``: the script that lets a shell complete what is typed."""

import click

_BASH = """\
_proj_completion() {
    local IFS=$'\\n' line response
    response=$(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _PROJ_COMPLETE=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    for line in $response; do
        case "${line%%,*}" in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain) COMPREPLY+=("${line#*,}") ;;
        esac
    done
    # A value follows right after the sign.
    case "${COMPREPLY[*]}" in *=) compopt -o nospace 2>/dev/null ;; esac
}
complete -o nosort -F _proj_completion proj 2>/dev/null || complete -F _proj_completion proj
"""
_HOW = {
    "bash": 'eval "$(proj completion bash)"',
    "zsh": 'eval "$(proj completion zsh)"',
    "fish": "proj completion fish | source",
}


@click.command("completion", epilog="\b\n" + "\n".join(f"{shell:5} {line}" for shell, line in _HOW.items()))
@click.argument("shell", type=click.Choice(list(_HOW)))
def completion(shell: str) -> None:
    """Print the script for SHELL that completes commands, options, runs, experiments, models and parameters.

    The line for the start file of the shell:
    """
    click.echo(_BASH if shell == "bash" else _script_of(shell), nl=False)


def _script_of(shell: str) -> str:
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise LookupError(f"click does not complete for {shell}")
    return found(click.Group("proj"), {}, "proj", "_PROJ_COMPLETE").source()
