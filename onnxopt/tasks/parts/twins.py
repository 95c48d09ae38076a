"""Layers of a part's files that have the same matrix: they get one form, so that the files stay equal in them."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from onnxopt.model_file.streamed import checksum
from onnxopt.quantization.weight_products import factor

_PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True)
class Twins:
    """The layers of some files.

    Attributes:
        names: the names of all nodes, by file.
        units: the name that a layer and its twins in other files have in common, by file and name.
    """

    names: Mapping[Path, tuple[str, ...]]
    units: Mapping[tuple[Path, str], str]

    def unit(self, path: Path, name: str) -> str:
        """Return the common name of a layer; one without a twin has its own."""
        return self.units.get((path, name), f"{path.name}: {name}")

    def known(self, path: Path) -> frozenset[str]:
        """Return the layers of a file that have a twin in an earlier one."""
        earlier = list(self.names)[: list(self.names).index(path)]
        before = {unit for (other, _), unit in self.units.items() if other in earlier}
        return frozenset(name for name in self.names[path] if self.units.get((path, name)) in before)

    def others(self, path: Path, left: frozenset[str]) -> dict[Path, tuple[str, ...]]:
        """Return the nodes to leave alone in other files, where in `path` all but those in `left` change.

        Files without a layer that changes are left out.
        """
        changed = {self.units[path, name] for name in self.names[path] if (path, name) in self.units} - {
            self.units.get((path, name), "") for name in left
        }
        found = {}
        for other, names in self.names.items():
            twins = {name for name in names if self.units.get((other, name)) in changed}
            if other != path and twins:
                found[other] = tuple(name for name in names if name not in twins)
        return found


def twins_of(models: Mapping[Path, ir.Model]) -> Twins:
    """Return the layers of models with names for all nodes; the first that have the same numbers are twins."""
    units = dict[tuple[Path, str], str]()
    for path, model in models.items():
        seen = Counter[str]()
        for node in model.graph:
            numbers = _numbers(node)
            if numbers:
                # A matrix of several layers has as many pairs of twins.
                units[path, node.name or ""] = f"{numbers} {seen[numbers]}"
                seen[numbers] += 1
    return Twins({path: tuple(node.name or "" for node in model.graph) for path, model in models.items()}, units)


def _numbers(node: ir.Node) -> str:
    """Return a checksum of the matrices of a layer; "" for a node without one."""
    values = [factor(node)[0]] if node.op_type in _PRODUCTS and len(node.inputs) > 1 else node.inputs
    tensors = [value.const_value for value in values if value is not None and value.const_value is not None]
    matrices = [tensor for tensor in tensors if len(tensor.shape) > 1]
    if not matrices:
        return ""
    digest = hashlib.sha256(f"{node.domain} {node.op_type}".encode())
    for tensor in matrices:
        digest.update(checksum(tensor))
    return digest.hexdigest()
