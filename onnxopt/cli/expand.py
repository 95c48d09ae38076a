"""Options that a dataclass declares as parameters of a command, and their values as that dataclass again."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from inspect import Parameter
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from typer.models import ParameterInfo

from onnxopt.errors import UsageError
from onnxopt.options.declared import Option, declared_options


def parameters_of(group: Any) -> list[Parameter]:
    """Return the parameters of a command for the fields of a dataclass; a field may bring its own typer option."""
    return [_as_it_is(option) if _is_for_typer(option) else _parameter(option) for option in _typed(group)]


def gathered(group: Any, given: Mapping[str, Any]) -> Any:
    """Return the dataclass with the values of its parameters.

    Raises:
        UsageError: ONX101 an item of a list is invalid; and as the dataclass raises.
    """
    values = {o.field: given[_name(o)] if _is_for_typer(o) else _read(o, given[_name(o)]) for o in _typed(group)}
    return group(**values)


def _typed(group: Any) -> list[Option]:
    return [option for option in declared_options(group) if option.written.typed]


def _name(option: Option) -> str:
    return option.word.replace("-", "_")


def _is_for_typer(option: Option) -> bool:
    return any(isinstance(note, ParameterInfo) for note in option.notes)


def _as_it_is(option: Option) -> Parameter:
    annotation: Any = Annotated[(option.kind, *option.notes)]
    default = Parameter.empty if option.default is MISSING else option.default
    return Parameter(_name(option), Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _parameter(option: Option) -> Parameter:
    kind, default, written = _typed_as(option), option.default, option.written
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default in (None, ""):
        kind, default = kind | None, None
    least, most = (next((getattr(n, key) for n in option.notes if hasattr(n, key)), None) for key in ("ge", "le"))
    bounds: dict[str, Any] = {} if least is None or most is None else {"min": least, "max": most}
    bounds |= {} if written.default_shown else {"show_default": False}
    note = typer.Option(f"--{option.word}", help=option.about, metavar=written.metavar or None, **bounds)
    annotation: Any = Annotated[kind, note]
    return Parameter(_name(option), Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _typed_as(option: Option) -> Any:
    """Return the type that is typed: a list is text with commas, and of several forms text is the widest."""
    if option.written.repeated:
        return list[str]
    members = _members(option.kind)
    if len(members) > 1 or _item(members[0]) is not None:
        return str
    return members[0]


def _read(option: Option, given: Any) -> Any:
    if given is None:
        return option.default
    read = option.written.read or _reader(option.kind)
    if read is None:
        return given
    try:
        return tuple(map(read, given)) if option.written.repeated else read(given)
    except ValueError as error:
        why = f"{given!r} is not a list of numbers"
        raise UsageError("ONX101", "invalid option value", where=f"--{option.word}", why=why) from error


def _reader(kind: Any) -> Callable[[str], Any] | None:
    """Return the reader of a list with commas; None for every other type, which typer reads."""
    item = _item(_members(kind)[0])
    if item is None:
        return None
    each = item if item in (int, float) else str
    return lambda text: tuple(map(each, text.split(",")))


def _members(kind: Any) -> tuple[Any, ...]:
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return tuple(member for member in members if member is not NoneType)


def _item(kind: Any) -> Any:
    """Return the type of the items of a list of any length; None for every other type."""
    arguments = get_args(kind)
    return arguments[0] if get_origin(kind) is tuple and arguments[-1] is Ellipsis else None
