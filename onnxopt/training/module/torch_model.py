"""An ONNX graph as a torch module: its weights are parameters, its nodes torch calls."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import onnx_ir as ir
import torch
from torch import Tensor, nn

from onnxopt.errors import DataError, ModelError
from onnxopt.training.module.coverage import (
    frozen_among,
    inlined_functions,
    inputs_of,
    live_nodes,
    named_outputs,
    unsupported_in,
)
from onnxopt.training.module.frozen import boundaries
from onnxopt.training.module.inlined import INLINED
from onnxopt.training.module.plan import ModulePlan
from onnxopt.training.module.planner import Planner
from onnxopt.training.module.weights import constants_of, running_statistics, trainable
from onnxopt.training.ops.convert import FLOATS, to_tensor

MOST_PLANS = 16
"""Plans kept, one per shape of the inputs; the oldest goes first."""


class TorchModel(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """The float outputs of a model, computed by torch.

    Float weights are parameters; scalars of the function, masks, integers and what follows from shapes are constants.

    Args:
        model: is copied.
        outputs: names of the outputs to compute; by default all that are floats.
        batch_norm: `frozen` uses the statistics in the file; `trained` uses those of the batch while the module is in
            training mode, and updates those in the file.

        unknown: what to do with operators without a rule: refuse them, or run them in ONNX Runtime, where no gradient
            passes.

    Attributes:
        names: name in the model of every parameter and buffer, by its key in `weights`.
        weights: holds the parameters; torch allows no dot in their names, so a dot is a slash there.

    Raises:
        ModelError: ONX309 an operator has no rule, or the model has no float output.
        UsageError: ONX101 there is no such output.
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        outputs: Sequence[str] | None = None,
        batch_norm: Literal["frozen", "trained"] = "frozen",
        unknown: Literal["refused", "frozen"] = "refused",
    ) -> None:
        super().__init__()
        self.batch_norm = batch_norm
        originals = {value.name for value, _ in constants_of(model)}
        self._model = inlined_functions(model)
        graph = self._model.graph
        self._outputs = _floats_of(graph, outputs)
        self._nodes = live_nodes(graph, self._outputs)
        self._inputs = inputs_of(graph)
        self._frozen = frozen_among(self._nodes, self._inputs)
        if self._frozen and unknown == "refused":
            raise _missing(unsupported_in(self._frozen, self._inputs))
        self.weights = nn.Module()
        self.names: dict[str, str] = {}
        self._keys: dict[ir.Value, str] = {}
        arrays = dict(constants_of(self._model))
        for name, value in trainable(self._model).items():
            if name in originals:
                self.weights.register_parameter(self._key(name, value), nn.Parameter(to_tensor(arrays[value].numpy())))
        if batch_norm == "trained":
            for name, value in running_statistics(self._model).items():
                if name in originals:
                    self.weights.register_buffer(self._key(name, value), to_tensor(arrays[value].numpy()))
        self._plans: dict[Any, ModulePlan] = {}

    def _key(self, name: str, value: ir.Value) -> str:
        key = name.replace(".", "/")
        while not key or key in self.names or hasattr(self.weights, key):
            key += "_"
        self.names[key], self._keys[value] = name, key
        return key

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs that are computed."""
        return tuple(value.name or "" for value in self._outputs)

    @property
    def boundaries(self) -> tuple[str, ...]:
        """Names of the float values that flow into nodes which run in ONNX Runtime."""
        return boundaries(self._frozen)

    @property
    def device(self) -> torch.device:
        """The device of the weights; the processor if there are none."""
        return next((tensor.device for _, tensor in self.named_weights()), torch.device("cpu"))

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Return parameters, and the statistics of trained normalizations, by their names in the model."""
        for key, tensor in (*self.weights.named_parameters(), *self.weights.named_buffers()):
            yield self.names[key], tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the values of the weights in a run, by key."""
        return {**self.weights._parameters, **self.weights._buffers}

    def forward(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of one batch by name.

        Raises:
            DataError: ONX202 an input is missing.
            ModelError: ONX309 at these shapes an operator cannot be run.
        """
        weights = self.tensors()
        try:
            fed = [feeds[value.name or ""] for value in self._inputs]
        except KeyError as error:
            raise DataError("ONX202", "an input is missing", where=str(error.args[0])) from error
        trains = self.training and self.batch_norm == "trained"
        device = fed[0].device if fed else torch.device("cpu")
        key = (tuple(tensor.shape for tensor in fed), device, trains)
        plan = self._plans.get(key)
        if plan is not None:
            return plan.run(feeds, weights)
        opsets = self._model.opset_imports
        planner = Planner(
            opsets,
            self._keys,
            tensors=weights,
            trains_batch_norm=trains,
            device=device,
            inlined=INLINED,
            frozen=self._frozen,
            model=self._model,
        )
        # What is constant is kept for runs with gradients, also when the first run is one without.
        learns = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(learns):
            plan = planner.trace(dict(zip(self._inputs, fed, strict=True)), self._nodes, self._outputs)
        while len(self._plans) >= MOST_PLANS:
            del self._plans[next(iter(self._plans))]
        self._plans[key] = plan
        return planner.outputs()


def _floats_of(graph: ir.Graph, names: Sequence[str] | None) -> list[ir.Value]:
    outputs = named_outputs(graph, names)
    if names is not None:
        return outputs
    floats = [value for value in outputs if value.dtype in FLOATS or _is_zip_map(value)]
    if not floats:
        raise ModelError(
            "ONX309",
            "the model has no output that can be trained",
            why="none is a float",
            hint="Export the model with its scores as an output.",
        )
    return floats


def _is_zip_map(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "ZipMap"


def _missing(missing: Sequence[tuple[str, str]]) -> ModelError:
    nodes = ", ".join(f"{op} {name}" for name, op in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return ModelError(
        "ONX309",
        "operators cannot be trained",
        where=f"{nodes}{more}",
        why="they have no rule, or depend on data where only shapes may decide",
        hint="docs/training-ops.md lists those with a rule; train the model in the framework that exported it.",
    )
