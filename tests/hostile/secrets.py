"""Models whose tensors, of graphs, bodies and functions, name a file outside of the model's folder."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from tests.hostile.model_faults import BASES

SECRET = b"secret!\n"
WAYS = ("absolute", "above", "symbolic", "hard")


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Return the tensors of the graph, of bodies, of attributes and of functions."""
    yield from model.graph.initializer
    yield from _inner(model.graph.node)
    for function in model.functions:
        yield from _inner(function.node)


def _inner(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("g"):
            yield from attribute.g.initializer
            yield from _inner(attribute.g.node)


PLACES = tuple((base.__name__, number) for base in BASES for number in range(len(list(tensors(base())))))
"""A base and the number of a tensor in it."""


def lead_out(base: str, number: int, way: str, folder: Path) -> bytes:
    """Return a model, to be written into `folder`, with a tensor whose numbers are the secret beside that folder.

    The secret lies in `../canary`; where the way is a link, it is made in `folder`.
    """
    model = next(one for one in BASES if one.__name__ == base)()
    tensor, secret = list(tensors(model))[number], folder.parent / "canary" / "secret.bin"
    secret.parent.mkdir(exist_ok=True)
    secret.write_bytes(SECRET * 100)
    link = folder / "link.bin"
    link.unlink(missing_ok=True)
    if way == "symbolic":
        link.symlink_to(secret)
    elif way == "hard":
        os.link(secret, link)
    location = {"absolute": str(secret), "above": "../canary/secret.bin"}.get(way, link.name)
    length = len(numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()
