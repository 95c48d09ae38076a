"""The packages that exporters need."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from onnxopt import extras


def require(module: str, extra: str, hint: str = "") -> Any:
    """Import `module`, which an export needs; raises like `onnxopt.extras.require`."""
    return extras.require(module, extra, "this export", hint)


def versions(*packages: str) -> Mapping[str, str]:
    """Return the versions of those of `packages` that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
