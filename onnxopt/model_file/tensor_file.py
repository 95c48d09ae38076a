"""Single tensors on disk, as ONNX's own test data sets keep them (`input_0.pb`)."""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from onnxopt.errors import DataError, FileError, first_line
from onnxopt.files import read_bytes


def read_tensor_file(path: Path) -> np.ndarray:
    """Return the tensor that a protobuf file holds.

    Raises:
        FileError: ONX501 it does not exist, ONX505 it cannot be read.
        DataError: ONX201 it holds no complete tensor.
    """
    if not path.exists():
        raise FileError("ONX501", "the tensor file does not exist", where=str(path), hint="Check the path.")
    try:
        tensor = onnx.TensorProto.FromString(read_bytes(path))
    except OSError as error:
        raise FileError("ONX505", "the tensor file cannot be read", where=str(path), why=first_line(error)) from error
    except DecodeError as error:
        raise _damaged(path, error) from error
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:  # onnx raises many types on tensors with too little data or no type
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "ONX201",
        "not a readable tensor file",
        where=str(path),
        why=first_line(error),
        hint="Save it again with onnx.save_tensor.",
    )
