"""Trained weights back into the file they came from."""

import numpy as np
import onnx_ir as ir

from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.module.weights import constants_of
from onnxopt.training.ops.convert import to_array


def write_back(model: ir.Model, module: TorchModel) -> ir.Model:
    """Return a copy of `model`, which `module` was made from, with the weights of `module`; all else is the same."""
    copy = model.clone()
    weights = dict(module.named_weights())
    for value, tensor in constants_of(copy):
        trained = weights.get(value.name or "")
        if trained is None:
            continue
        array = to_array(trained)
        # A weight that did not move keeps its tensor, and so its bytes and its place in an external file.
        if array.tobytes() != np.asarray(tensor.numpy()).tobytes():
            _replace(value, array)
    return copy


def _replace(value: ir.Value, array: np.ndarray) -> None:
    array.flags.writeable = False
    node = value.producer()
    if node is None:
        old = value.const_value
        value.const_value = ir.Tensor(array, name=value.name, doc_string=old.doc_string if old is not None else None)
    else:
        old = node.attributes["value"].as_tensor()
        new = ir.Tensor(array, dtype=old.dtype, name=old.name, doc_string=old.doc_string)
        node.attributes["value"] = ir.AttrTensor("value", new)
