"""`--config file.toml`: the same options by their long names; top-level keys for every command, `[command]` for one.

threads = 2

[optimize]
data = "digits"
max-drop = "1pp"
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from onnxopt.errors import UsageError, nearest
from onnxopt.files import read_toml


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values in `path` the defaults of the command that is being parsed.

    Raises:
        UsageError: ONX105 the file cannot be read, ONX102 a key is not an option.
    """
    if path is None:
        return None
    content = _parse(path)
    parent = context.parent
    commands: Mapping[str, Any] = getattr(parent.command, "commands", {}) if parent else {}
    known = {name: _options(command) for name, command in commands.items()}
    own = context.info_name or ""
    chosen: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            _require(key, known, "table", path)
            for inner in value:
                _require(inner, known[key], f"option of {key}", path)
            if key == own:
                chosen |= {known[own][inner].name: _typed(v, known[own][inner]) for inner, v in value.items()}
        else:
            _require(key, {name for options in known.values() for name in options}, "option", path)
            if key in known[own]:
                chosen.setdefault(known[own][key].name, _typed(value, known[own][key]))
    context.default_map = {**(context.default_map or {}), **chosen}
    return path


def _parse(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            "ONX105", "the configuration file cannot be read", where=str(path), why=why, hint="It must be TOML."
        ) from error


def _options(command: Any) -> dict[str, Any]:
    """Return the long names of a command's options, without dashes in front, and the parameters they set."""
    return {
        name.removeprefix("--"): p
        for p in command.params
        if p.param_type_name == "option"
        for name in p.opts
        if name.startswith("--") and name not in ("--help", "--config")
    }


def _require(key: str, known: Iterable[str], what: str, path: Path) -> None:
    names = list(known)
    if key not in names:
        raise UsageError(
            "ONX102", f"unknown {what} in the configuration", where=f"{path}: {key}", hint=nearest(key, names)
        )


def _typed(value: Any, parameter: Any) -> Any:
    """Return a value as command-line text; the option then checks it like any argument."""
    if parameter.multiple:
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
