"""Options that a dataclass declares as parameters of a command, and what was typed as that dataclass again."""

from collections.abc import Mapping
from dataclasses import MISSING
from inspect import Parameter
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from typer.models import ParameterInfo

from onnxopt.errors import UsageError
from onnxopt.options.declared import Option, declared


def parameters_of(group: Any) -> list[Parameter]:
    """Return the parameters of a command for the fields of a dataclass; a field may bring its own typer option."""
    return [_as_it_is(option) if _is_for_typer(option) else _parameter(option) for option in declared(group)]


def gathered(group: Any, typed: Mapping[str, Any]) -> Any:
    """Return the dataclass with what was typed.

    Raises:
        UsageError: ONX101 an item of a list makes no sense; and as the dataclass raises.
    """
    given = {o.field: typed[o.field] if _is_for_typer(o) else _read(o, typed[o.field]) for o in declared(group)}
    return group(**given)


def _is_for_typer(option: Option) -> bool:
    return any(isinstance(note, ParameterInfo) for note in option.notes)


def _as_it_is(option: Option) -> Parameter:
    annotation: Any = Annotated[(option.kind, *option.notes)]
    default = Parameter.empty if option.default is MISSING else option.default
    return Parameter(option.field, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _parameter(option: Option) -> Parameter:
    kind, default = _typed_as(option.kind), option.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default in (None, ""):
        kind, default = kind | None, None
    least, most = (next((getattr(n, key) for n in option.notes if hasattr(n, key)), None) for key in ("ge", "le"))
    bounds: dict[str, Any] = {} if least is None or most is None else {"min": least, "max": most}
    note = typer.Option(f"--{option.word}", help=option.about, metavar=option.metavar or None, **bounds)
    annotation: Any = Annotated[kind, note]
    return Parameter(option.field, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _typed_as(kind: Any) -> Any:
    """Return the type that is typed: a list is text with commas, and of several forms text is the widest."""
    members = _members(kind)
    if len(members) > 1 or _item(members[0]) is not None:
        return str
    return members[0]


def _read(option: Option, typed: Any) -> Any:
    if typed is None:
        return option.default
    item = _item(_members(option.kind)[0])
    if item is None:
        return typed
    kind = item if item in (int, float) else str
    try:
        return tuple(kind(word) for word in typed.split(","))
    except ValueError as error:
        why = f"{typed!r} is not a list of numbers"
        raise UsageError("ONX101", "invalid option value", where=f"--{option.word}", why=why) from error


def _members(kind: Any) -> tuple[Any, ...]:
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return tuple(member for member in members if member is not NoneType)


def _item(kind: Any) -> Any:
    """Return the type of the items of a list of any length; None for every other type."""
    arguments = get_args(kind)
    return arguments[0] if get_origin(kind) is tuple and arguments[-1] is Ellipsis else None
