"""The interface of operator rules: from one node with its constants to a torch function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from onnxopt.errors import ModelError

Apply = Callable[..., Any]
"""Takes the node's inputs in order, None for one that is left out; returns its output, or a tuple of several."""


@dataclass(frozen=True)
class Site:
    """One node at the moment its function is made, once per shape of the model's inputs.

    Attributes:
        name: the name of the node.
        op_type: the operator of the node.
        version: the version of its operator set.
        attributes: the attributes as plain Python values, tensors as torch tensors.
        constants: per input its value where that is known now, else None.
        outputs: number of outputs, up to the last that is used.
        fed: the inputs that are not left out.
        trains_batch_norm: whether normalizations use the statistics of the batch.
    """

    name: str
    op_type: str
    version: int
    attributes: Mapping[str, Any]
    constants: tuple[Tensor | None, ...]
    outputs: int = 1
    fed: frozenset[int] = frozenset()
    trains_batch_norm: bool = False

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def constant(self, slot: int) -> Tensor | None:
        """Return an input's value where it is known."""
        return self.constants[slot] if slot < len(self.constants) else None

    def ints(self, slot: int) -> tuple[int, ...] | None:
        """Return the integers of an input where they are known."""
        value = self.constant(slot)
        return None if value is None else ints(value)

    def refuse(self, why: str) -> ModelError:
        """Return the error for a form of the operator that has no rule."""
        return ModelError(
            "ONX309",
            "an operator cannot be trained",
            where=f"{self.op_type} {self.name}".strip(),
            why=why,
            hint="Train the model in the framework that exported it.",
        )


@dataclass(frozen=True)
class Rule:
    """The conversion of a node to a torch function.

    Attributes:
        build: the mapping from the node to its function.
        sizes: inputs whose values, not only their shapes, decide the shape of the output.
        loose: whether the output's shape depends on the values of any input.
    """

    build: Callable[[Site], Apply]
    sizes: tuple[int, ...] = ()
    loose: bool = False


def as_it_stands(function: Apply) -> Rule:
    """Return the rule of an operator that is a torch function as it stands."""
    return Rule(lambda site: function)


def ints(tensor: Tensor) -> tuple[int, ...]:
    """Return the integers in a tensor of any rank."""
    return tuple(int(i) for i in tensor.reshape(-1).tolist())


def known_or_read(site: Site, slot: int) -> Callable[[Tensor | None], tuple[int, ...] | None]:
    """Return the reader of an input's integers: at once if they are known now, else from the tensor."""
    fixed = site.ints(slot)
    if fixed is not None or slot >= len(site.constants):
        return lambda tensor: fixed
    return lambda tensor: None if tensor is None else ints(tensor)
