"""The file of layers to keep in float: written by `diagnose`, read by `quantize --overrides`.

[quantize]
exclude = ["conv_1"]

It is also a configuration file of `quantize`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from onnxopt.errors import UsageError
from onnxopt.files import read_toml


def overrides_text(reasons: Mapping[str, str]) -> str:
    """Return the content of the file; each layer with its reason as a comment."""
    # TOML has the escapes of JSON.
    lines = [f"    {json.dumps(name)},  # {reason}\n" for name, reason in reasons.items()]
    return "[quantize]\nexclude = [\n" + "".join(lines) + "]\n"


def read_overrides(path: Path) -> tuple[str, ...]:
    """Return the layers to keep in float.

    Raises:
        UsageError: ONX105 the file cannot be read, or has another form.
    """
    try:
        content = read_toml(path)
    except (OSError, ValueError) as error:
        raise _refusal(path, getattr(error, "strerror", None) or str(error)) from error
    table = content.get("quantize")
    names = table.get("exclude") if isinstance(table, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _refusal(path, "there is no list `exclude` in a table [quantize]")
    return tuple(names)


def _refusal(path: Path, why: str) -> UsageError:
    return UsageError(
        "ONX105",
        "the file of overrides cannot be read",
        where=str(path),
        why=why,
        hint="Write one with `onnxopt diagnose ... --out FILE`.",
    )
