"""The packages that exporters need."""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from onnxopt.errors import UsageError


def require(module: str, extra: str, hint: str = "") -> Any:
    """Import `module`, which `extra` of this package brings, or raise with `hint`.

    Raises:
        UsageError: ONX108 it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            "ONX108",
            "a package that this export needs is not installed",
            where=module.partition(".")[0],
            why=str(error).splitlines()[0].rstrip("."),
            hint=hint or f'Run: pip install "onnxopt[{extra}]"',
        ) from error


def versions(*packages: str) -> Mapping[str, str]:
    """Return the versions of those of `packages` that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
