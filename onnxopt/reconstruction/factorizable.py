"""A copy of a model in which every reducible layer is a single node, and the way back to the model."""

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.graph.channels.find import normalized
from onnxopt.graph.check import require_nodes
from onnxopt.graph.factor_edit import replace_by_chains
from onnxopt.graph.probe import probe
from onnxopt.graph.recurrent_split import merge_recurrent, split_recurrent
from onnxopt.measure.runtime.activations import Activations
from onnxopt.reconstruction.layers import LinearLayer, drop_zero_biases, with_biases
from onnxopt.reconstruction.low_rank.fit import FactorizedModel
from onnxopt.reconstruction.low_rank.reducible import reducible
from onnxopt.reconstruction.scan_layers import hidden, observed
from onnxopt.samples import Feeds, Samples


@dataclass(frozen=True)
class FactorizableModel:
    """A normalized copy of a model, its reducible layers, and the changes made by the normalization.

    Attributes:
        layers: reducible layers by node, in graph order.
        refused: the other layers, with the reason.
        samples: calibration samples; with them every layer has a bias.
        inner: names of the layers in the body of a Scan.
        recurrent: recurrent nodes whose input product was split off.
        biases: names of added zero biases.
    """

    model: ir.Model
    layers: dict[str, LinearLayer]
    refused: dict[str, str]
    samples: Samples | None
    inner: dict[str, LinearLayer]
    recurrent: tuple[str, ...]
    biases: set[str]

    @classmethod
    def of(cls, model: ir.Model, exclude: Collection[str], samples: Samples | None) -> "FactorizableModel":
        """Return the factorizable copy of `model` (not modified).

        Raises:
            UsageError: ONX102 `exclude` has an unknown name.
        """
        work = normalized(model)
        inner, biases = observed(work, biases=samples is not None)
        require_nodes(work, [name for name in exclude if name not in inner])
        recurrent, left = split_recurrent(work, exclude)
        if samples is not None:
            biases |= with_biases(work, grouped=True)
        layers, refused = reducible(work, exclude, observed=samples is not None, grouped=True, inner=inner)
        return cls(work, layers, left | refused, samples, inner, recurrent, biases)

    def shapes(self, feeds: Feeds, fed: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of values by name, for inputs of the shapes `fed`; `feeds` is a batch of them."""
        found = dict(probe(self.model, fed).shapes)
        # Shapes that depend on the steps of a loop are not inferred.
        names = [layer.x for layer in self.layers.values() if layer.node in self.inner or layer.x not in found]
        if names:
            (arrays,) = Activations(self.model, names).of([feeds])
            found |= {name: array.shape for name, array in arrays.items()}
        return found

    def whole(self, reduced: FactorizedModel) -> ir.Model:
        """Return the model with the chains of the reduced layers; all other changes of the copy are undone."""
        result = reduced.model.clone()
        chains = {n: [(s.weight, s.axes) for s in factors.stages] for n, factors in reduced.factors.items()}
        replace_by_chains(result, chains)
        hidden(result, self.inner.values())
        drop_zero_biases(result, self.biases)
        merge_recurrent(result, self.recurrent)
        return result
