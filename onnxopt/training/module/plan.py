"""A graph as a flat list of torch calls, for one shape of its inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Step = tuple[Callable[..., Any], tuple[int, ...], int | tuple[int, ...], tuple[int, ...]]
"""A function, the registers it reads, the one or those it writes, and those that nothing reads any more."""


@dataclass
class ModulePlan:
    """The steps of every run; registers are numbered, register 0 holds None for missing inputs.

    Attributes:
        start: registers as they are before a run: constants.
        feeds: registers of the model's inputs by name.
        weights: registers of weights by their key in the module.
        outputs: registers of the outputs by name.
    """

    start: list[Any] = field(default_factory=lambda: [None])
    feeds: dict[str, int] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)

    def run(self, feeds: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name."""
        registers = self.start.copy()
        for name, index in self.feeds.items():
            registers[index] = feeds[name]
        for key, index in self.weights.items():
            registers[index] = weights[key]
        for call, inputs, output, dead in self.steps:
            result = call(*[registers[i] for i in inputs])
            if isinstance(output, int):
                registers[output] = result
            else:
                for index, value in zip(output, result, strict=True):
                    registers[index] = value
            for index in dead:
                registers[index] = None
        return {name: registers[index] for name, index in self.outputs.items()}

    def free(self, known: set[int]) -> None:
        """Note at each step which registers nothing reads any more, so that a run without gradients is small."""
        kept = known | {*self.feeds.values(), *self.weights.values(), *self.outputs.values()}
        for position in range(len(self.steps) - 1, -1, -1):
            call, inputs, written, _ = self.steps[position]
            touched = {*inputs, *((written,) if isinstance(written, int) else written)}
            self.steps[position] = (call, inputs, written, tuple(touched - kept))
            kept |= touched
