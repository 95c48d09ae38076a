"""Packages that extras of this package bring: imported where they are needed, or named in an error."""

import warnings
from importlib import import_module
from typing import Any

from onnxopt.errors import UsageError, first_line

READING = "this form of data"
"""The purpose of packages that read samples."""


def require(module: str, extra: str, purpose: str, hint: str = "") -> Any:
    """Import `module`, which the extra `extra` of this package brings.

    Args:
        module: dotted name; its first part is the package that the error names.
        extra: name of the extra; "" if `hint` says how to install the package.
        purpose: the subject of the error's sentence, such as `this export`.
        hint: the remedy, if it is not the installation of the extra.

    Raises:
        UsageError: ONX108 the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what packages say of themselves while they load is nothing to act on
            return import_module(module)
    except ImportError as error:
        raise UsageError(
            "ONX108",
            f"{purpose} needs a package that is not installed",
            where=package,
            why="" if _names_only(error, package) else first_line(error).rstrip("."),
            hint=hint or install_hint(extra),
        ) from error


def _names_only(error: ImportError, package: str) -> bool:
    """Return whether the import failed because the package is not installed."""
    return (error.name or str(error)).partition(".")[0] == package


def install_hint(extra: str) -> str:
    """Return the command that installs an extra of this package."""
    return f'Run: pip install "onnxopt[{extra}]"'
