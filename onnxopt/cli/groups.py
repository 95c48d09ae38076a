"""Expansion of shared option groups (dataclasses) into the signature of a command."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

from onnxopt.cli.expand import gathered, parameters_of
from onnxopt.errors import FileError


def command_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` for typer: each parameter of a dataclass type is replaced by the dataclass's fields.

    Typer reads `__signature__`; when called, the fields are gathered into the dataclass again. A field has an
    option of typer, or a description without typer, see `onnxopt.options.declared`.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if name != "return" and is_dataclass(kind)}
    expanded = {name: parameters_of(group) for name, group in groups.items()}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            parameters.extend(expanded[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(function)
    def call(**given: Any) -> Any:
        _refuse_config(given)
        if function.__name__ != "check":  # it reports a crash as a finding
            _survive_loading(given)
        for name, group in groups.items():
            given[name] = gathered(group, {p.name: given.pop(p.name) for p in expanded[name]})
        return function(**given)

    call.__signature__ = inspect.Signature(parameters, return_annotation=hints.get("return"))  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _refuse_config(given: Mapping[str, Any]) -> None:
    """Refuse to write the result over the configuration file.

    Raises:
        FileError: ONX504.
    """
    config = given.get("config")
    for name in ("out", "plot", "html"):
        out = given.get(name)
        if config is not None and isinstance(out, Path) and out.exists() and out.samefile(config):
            hint = "Choose another name."
            raise FileError(
                "ONX504", "the output would overwrite a file that is read", where=str(out), why="--config", hint=hint
            )


def _survive_loading(given: Mapping[str, Any]) -> None:
    """Load each model argument in a separate process first, so that a crash of the runtime ends in a message.

    Raises:
        ModelError: ONX304 the runtime crashes on it.
    """
    named = [given.get(name) for name in ("model", "models", "original", "optimized", "teacher")]
    paths = [p for some in named for p in (some if isinstance(some, list | tuple) else [some]) if isinstance(p, Path)]
    if paths:
        from onnxopt.measure.runtime.first_load import survive_loading

        for path in paths:
            survive_loading(path, given.get("optimization_level") or "all")
