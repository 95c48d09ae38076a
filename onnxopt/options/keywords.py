"""Options as keyword arguments of a Python call."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from onnxopt.errors import UsageError, nearest
from onnxopt.options.declared import Option, declared_options

Call = TypeVar("Call", bound=Callable[..., Any])
Options = TypeVar("Options")


def with_options(kind: Any) -> Callable[[Call], Call]:
    """Return a decorator: the signature of a call, as notebooks complete it, names the fields in place of `**named`."""

    def decorate(call: Call) -> Call:
        signature = inspect.signature(call)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            inspect.Parameter(o.field, inspect.Parameter.KEYWORD_ONLY, default=o.default)
            for o in declared_options(kind)
        ]
        call.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        return call

    return decorate


def with_named(options: Options, named: Mapping[str, Any], call: Callable[..., Any]) -> Options:
    """Return `options` with fields given by name; None where a field has another default stands for that.

    Args:
        options: a frozen dataclass.
        named: values by name of field.
        call: the name of the call, for errors.

    Raises:
        UsageError: ONX102 there is no such field, ONX101 a value is of a wrong type; and as the dataclass raises.
    """
    known = {o.field: o for o in declared_options(type(options))}
    for name in named:
        if name not in known:
            hint = nearest(name, inspect.signature(call).parameters)
            raise UsageError("ONX102", f"unknown option of {call.__name__}", where=name, hint=hint)
    given = {name: known[name].default if value is None else value for name, value in named.items()}
    try:
        return replace(options, **given)  # type: ignore[type-var]
    except (TypeError, AttributeError) as error:
        mistyped = _mistyped(known, given)
        if mistyped is None:
            raise
        raise mistyped from error


def _mistyped(known: Mapping[str, Option], given: Mapping[str, Any]) -> UsageError | None:
    """Return the error about the first value of a wrong type, if there is one."""
    from pydantic import TypeAdapter, ValidationError

    for name, value in given.items():
        try:
            TypeAdapter(known[name].kind).validate_python(value)
        except ValidationError as error:
            why = f"{value!r}: {error.errors()[0]['msg']}"
            return UsageError("ONX101", "invalid option value", where=name, why=why)
    return None
