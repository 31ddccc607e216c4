"""``proj completion``: prints the completion script for a shell."""

import click

_BASH = """\
_proj_completion() {
    local IFS=$'\\n' line response rest="$COMP_LINE" index current=0 words=() word=""
    # Bash also splits at characters such as "=": parts with no space between them on the line are one word.
    for ((index = 0; index < ${#COMP_WORDS[@]}; index++)); do
        if [[ $rest == [[:space:]]* ]]; then
            [ "$index" = 0 ] || words+=("$word")
            word=""
            rest="${rest#"${rest%%[![:space:]]*}"}"
        fi
        word+="${COMP_WORDS[index]}"
        rest="${rest#"${COMP_WORDS[index]}"}"
        [ "$index" = "$COMP_CWORD" ] && current=${#words[@]}
    done
    words+=("$word")
    word="${words[current]}"
    response=$(COMP_WORDS="${words[*]}" COMP_CWORD=$current _PROJ_COMPLETE=bash_complete "$1" 2>/dev/null)
    # It replaces what follows the last of these signs only.
    case "$COMP_WORDBREAKS" in *=*) ;; *) word="" ;; esac
    case "$word" in -*) word="" ;; *=*) word="${word%"${word##*=}"}" ;; *) word="" ;; esac
    COMPREPLY=()
    while IFS= read -r line; do
        case "${line%%,*}" in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain)
                line="${line#*,}"
                COMPREPLY+=("${line#"$word"}")
                ;;
        esac
    done <<< "$response"
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
    """Print the script with which SHELL completes commands, options, runs, experiments, models and parameters.

    Add this line to the start file of the shell:

    \b
    Examples:
      proj completion bash
    """  # noqa: D301  # click reads the control character
    click.echo(_BASH if shell == "bash" else _script_of(shell), nl=False)


def _script_of(shell: str) -> str:
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise LookupError(f"click has no completion for {shell}")
    return found(click.Group("proj"), {}, "proj", "_PROJ_COMPLETE").source()
