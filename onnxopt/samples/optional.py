"""Optional packages of some readers."""

import warnings
from importlib import import_module
from typing import Any

from onnxopt.errors import UsageError


def require(module: str, extra: str) -> Any:
    """Import `module`, which belongs to the extra `extra` of this package.

    Raises:
        UsageError: ONX108 the module is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what packages say of themselves while they load is nothing to act on
            return import_module(module)
    except ImportError as error:
        raise UsageError(
            "ONX108",
            "a package that reads this data is not installed",
            where=module.partition(".")[0],
            hint=f'Run: pip install "onnxopt[{extra}]"',
        ) from error
