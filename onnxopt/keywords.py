"""Unknown keyword arguments of public calls, refused as the command line refuses unknown options."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from onnxopt.errors import UsageError, nearest


def with_checked_keywords(function: Callable[..., Any], name: str, module: str) -> Callable[..., Any]:
    """Return `function` as a public call: an unknown keyword argument raises ONX102 with the nearest known one.

    Args:
        function: the function; one with `**options` checks those itself.
        name: under which the call is public.
        module: the module in which it is public; pickle finds the call by both.
    """
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return function
    known = frozenset(parameter.name for parameter in parameters)

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if not known.issuperset(keywords):
            unknown = next(keyword for keyword in keywords if keyword not in known)
            raise UsageError("ONX102", f"unknown option of {name}", where=unknown, hint=nearest(unknown, known))
        return function(*arguments, **keywords)

    call.__module__, call.__qualname__, call.__name__ = module, name, name
    return call
