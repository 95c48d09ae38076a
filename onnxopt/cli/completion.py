"""Completion for shells as a fixed script: pressing Tab starts no Python."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from onnxopt.errors import ExitCode

Shell = Literal["bash", "zsh", "fish"]
"""Shells with a completion script."""


def completion(
    context: typer.Context, *, shell: Annotated[Shell, typer.Argument(help="Your shell.", show_default=False)]
) -> int:
    """Print a shell completion script.

    Put `eval "$(onnxopt completion bash)"` in the startup file of your shell.
    """
    parent = context.parent
    commands: Mapping[str, Any] = getattr(parent.command, "commands", {}) if parent else {}
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands), end="")
    return ExitCode.OK


def _options(command: Any) -> dict[str, list[str]]:
    """Return the long options of a command, each with its choices."""
    found: dict[str, list[str]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            found |= {name: _words(parameter) for name in parameter.opts if name.startswith("--")}
    return found | {"--help": []}


def _words(parameter: Any) -> list[str]:
    """Return the choices of an option; typer stores them in one of two ways."""
    declared = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    for kind in (declared, *get_args(declared)):
        if get_origin(kind) is Literal:
            return [str(word) for word in get_args(kind)]
        if isinstance(kind, type) and issubclass(kind, Enum):
            return [str(member.value) for member in kind]
    return [str(choice) for choice in getattr(getattr(parameter, "type", None), "choices", ())]


def _bash(commands: Mapping[str, Any]) -> str:
    lines = [
        "_onnxopt() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        "  COMPREPLY=()",
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f'    COMPREPLY=($(compgen -W "{" ".join(commands)} --help --version" -- "$word")); return',
        "  fi",
        '  case "${COMP_WORDS[1]} $before" in',
    ]
    for name, command in commands.items():
        for option, words in _options(command).items():
            if words:
                lines.append(
                    f'    "{name} {option}") COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word")); return ;;'
                )
    lines += ["  esac", '  case "$word" in -*) case "${COMP_WORDS[1]}" in']
    for name, command in commands.items():
        lines.append(f'    {name}) COMPREPLY=($(compgen -W "{" ".join(_options(command))}" -- "$word")) ;;')
    return "\n".join([*lines, "  esac ;; esac", "}", "complete -o default -F _onnxopt onnxopt", ""])


def _zsh(commands: Mapping[str, Any]) -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(commands)


def _fish(commands: Mapping[str, Any]) -> str:
    lines = []
    for name, command in commands.items():
        about = (command.get_short_help_str(80) or "").replace("'", "\\'")
        lines.append(f"complete -c onnxopt -n __fish_use_subcommand -f -a {name} -d '{about}'")
        for option, words in _options(command).items():
            fixed = f" -x -a '{' '.join(words)}'" if words else ""
            lines.append(f"complete -c onnxopt -n '__fish_seen_subcommand_from {name}' -l {option[2:]}{fixed}")
    return "\n".join(lines) + "\n"
