"""ONNX graphs that learn: the only room with torch besides export."""

from onnxopt.errors import UsageError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise UsageError(
        "ONX108",
        "training needs a package that is not installed",
        where="torch",
        hint='Run: pip install "onnxopt[train]"',
    ) from error
