"""Errors of typer about wrong arguments, as errors with stable codes."""

from collections.abc import Iterable

import typer

from onnxopt.errors import UsageError, nearest


def as_usage_error(error: Exception) -> UsageError:
    """Translate an error of typer about the arguments; typer does not export its classes."""
    kind = type(error).__name__
    context: typer.Context | None = getattr(error, "ctx", None)
    command = context.command_path if context else "onnxopt"
    hint = f"See `{command} --help`."
    message = getattr(error, "message", "") or str(error)
    if kind == "NoSuchOption":
        name = str(getattr(error, "option_name", ""))
        return UsageError("ONX102", "unknown option", where=name, hint=f"{_nearest(name, _options(context))} {hint}")
    if message.startswith("No such command"):
        name = message.split("'")[1] if "'" in message else message
        known = getattr(context.command, "commands", {}) if context else {}
        return UsageError("ONX102", "unknown command", where=name, hint=nearest(name, known))
    if kind == "MissingParameter":
        return UsageError("ONX113", "a required argument is missing", where=_hint_of(error), hint=hint)
    if isinstance(error, typer.BadParameter):
        return UsageError("ONX101", "invalid option value", where=_hint_of(error), why=_no_dot(message), hint=hint)
    return UsageError("ONX101", "the command line cannot be read", where=command, why=_no_dot(message), hint=hint)


def _no_dot(text: str) -> str:
    return text.strip().removeprefix("Value error, ").rstrip(".")


def _hint_of(error: Exception) -> str:
    parameter = getattr(error, "param", None)
    if parameter is None:
        return str(getattr(error, "param_hint", "") or "")
    return str(parameter.opts[0] if parameter.param_type_name == "option" else parameter.name)


def _options(context: typer.Context | None) -> Iterable[str]:
    return [name for p in context.command.params for name in p.opts] if context else []


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""
