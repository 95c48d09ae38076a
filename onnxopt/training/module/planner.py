"""The plan of a torch module: one run of the graph computes everything that does not depend on data."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from onnxopt.errors import ModelError, OnnxoptError, first_line
from onnxopt.training.module.frozen import FrozenFunction, read_by
from onnxopt.training.module.plan import ModulePlan
from onnxopt.training.module.registry import RULES
from onnxopt.training.ops.convert import to_tensor
from onnxopt.training.ops.rule import Apply, Site


class Planner:
    """Runs a graph once, node by node, and writes down the plan.

    Args:
        opsets: versions of the operator sets.
        weights: values that are weights, and their keys.
        tensors: the weights by key.
        trains_batch_norm: whether normalizations use the statistics of the batch.
        device: the device of the constants.
        inlined: operators that are run while the plan is made, instead of by a rule.
        frozen: nodes of `model` that run in ONNX Runtime.
        model: the model of the nodes.
    """

    def __init__(
        self,
        opsets: Mapping[str, int],
        weights: Mapping[ir.Value, str],
        *,
        tensors: Mapping[str, Tensor],
        trains_batch_norm: bool,
        device: torch.device,
        inlined: Mapping[str, Callable[["Planner", ir.Node], None]],
        frozen: Collection[ir.Node] = (),
        model: ir.Model | None = None,
    ) -> None:
        self.frozen, self.model = frozen, model
        self.opsets, self.keys, self.tensors = opsets, weights, tensors
        self.trains_batch_norm, self.device, self.inlined = trains_batch_norm, device, inlined
        self.plan = ModulePlan()
        self.values: list[Any] = [None]
        self.known: set[int] = {0}
        self.loose: set[int] = set()
        self.places: dict[ir.Value, int] = {}

    def trace(
        self, feeds: Mapping[ir.Value, Tensor], nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]
    ) -> ModulePlan:
        """Run `nodes` on `feeds`, and return what has to be done again for other data of the same shapes."""
        for value, tensor in feeds.items():
            self.places[value] = self.plan.feeds[value.name or ""] = self.register(tensor)
        for node in nodes:
            self.visit(node)
        self.plan.outputs = {value.name or "": self.place(value) for value in outputs}
        self.plan.start = [value if i in self.known else None for i, value in enumerate(self.values)]
        self.plan.free(self.known)
        return self.plan

    def outputs(self) -> dict[str, Tensor]:
        """Return the outputs of the run."""
        return {name: self.values[index] for name, index in self.plan.outputs.items()}

    def register(self, value: Any, *, known: bool = False, loose: bool = False) -> int:
        """Give a value a register."""
        self.values.append(value)
        index = len(self.values) - 1
        if known:
            self.known.add(index)
        if loose:
            self.loose.add(index)
        return index

    def place(self, value: ir.Value | None) -> int:
        """Return the register of a value; weights and constants get theirs when they are first read."""
        if value is None:
            return 0
        if value in self.keys:
            key = self.keys[value]
            if key not in self.plan.weights:
                self.plan.weights[key] = self.register(self.tensors[key])
            return self.plan.weights[key]
        if value not in self.places:
            if value.const_value is None:
                raise KeyError(value.name)
            self.places[value] = self.constant(to_tensor(value.const_value.numpy()))
        return self.places[value]

    def constant(self, tensor: Tensor) -> int:
        """Return the register of a new constant."""
        return self.register(tensor.to(self.device), known=True)

    def emit(self, call: Apply, inputs: Sequence[int], count: int | None = None, *, loose: bool = False) -> Any:
        """Run a function; write it down unless all it reads is constant. Returns its register, or `count` of them."""
        known = all(i in self.known for i in inputs)
        result = call(*[self.values[i] for i in inputs])
        loose = loose or any(i in self.loose for i in inputs)
        if count is None and isinstance(result, tuple):  # several outputs of which only the first is read
            return self.emit(lambda *values: call(*values)[0], inputs, loose=loose)
        if count is None:
            one = self.register(result, known=known, loose=loose)
            written: int | tuple[int, ...] = one
        else:
            written = tuple(self.register(part, known=known, loose=loose) for part in result)
        if not known:
            self.plan.steps.append((call, tuple(inputs), written, ()))
        return written

    def visit(self, node: ir.Node) -> None:
        """Run one node.

        Raises:
            ModelError: ONX309 it has no rule, or torch cannot run it.
        """
        try:
            self._visit(node)
        except OnnxoptError:
            raise
        except Exception as error:  # torch's errors have no common base class
            raise cannot_train(node, first_line(error)) from error

    def _visit(self, node: ir.Node) -> None:
        if node in self.frozen:
            self._run_frozen(node)
            return
        if not node.domain and node.op_type in self.inlined:
            self.inlined[node.op_type](self, node)
            return
        inputs = [self.place(value) for value in node.inputs]
        rule = RULES.get((node.domain, node.op_type))
        if rule is None:
            raise cannot_train(node, "it has no rule")
        loose = rule.loose or any(slot < len(inputs) and inputs[slot] not in self.known for slot in rule.sizes)
        call = rule.build(self.site(node, inputs))
        if node.op_type in ("Shape", "Size") and not node.domain and inputs[0] not in self.loose:
            self.places[node.outputs[0]] = self.constant(call(self.values[inputs[0]]))
            return
        several = len(node.outputs) > 1 and used_outputs(node) > 1
        written = self.emit(call, inputs, used_outputs(node) if several else None, loose=loose)
        self.places.update(zip(node.outputs, written if several else (written,), strict=False))

    def _run_frozen(self, node: ir.Node) -> None:
        assert self.model is not None
        inputs = [self.place(value) for value in read_by(node)]
        call = FrozenFunction(self.model, node, [self.values[i] for i in inputs])
        written = self.emit(call, inputs, len(call.outputs), loose=True)
        self.places.update(zip(call.outputs, written, strict=True))

    def site(self, node: ir.Node, inputs: Sequence[int]) -> Site:
        """Return the facts of a node that a rule may use."""
        return Site(
            node.name or node.outputs[0].name or "",
            node.op_type,
            self.opsets.get(node.domain, 1),
            {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in attributes_of(node).items()},
            tuple(self.values[i] if i in self.known else None for i in inputs),
            used_outputs(node),
            frozenset(slot for slot, i in enumerate(inputs) if i),
            self.trains_batch_norm,
        )


def cannot_train(node: ir.Node, why: str) -> ModelError:
    """Return the error for a node that the interpreter cannot run."""
    return ModelError(
        "ONX309",
        "an operator cannot be trained",
        where=f"{node.op_type} {node.name or node.outputs[0].name}",
        why=why.rstrip("."),
        hint="Train the model in the framework that exported it.",
    )


def used_outputs(node: ir.Node) -> int:
    """Return the number of a node's outputs up to the last that is used; those of Split all count."""
    if node.op_type == "Split":
        return len(node.outputs)
    used = [i for i, v in enumerate(node.outputs) if v.uses() or v.is_graph_output()]
    return max(used, default=0) + 1


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """Return the attributes of a node as Python values; tensors as torch tensors."""
    found = dict[str, Any]()
    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.TENSOR:
            found[name] = to_tensor(attribute.as_tensor().numpy())
        elif attribute.type == ir.AttributeType.INTS:
            found[name] = tuple(attribute.as_ints())
        else:
            found[name] = attribute.value
    return found
