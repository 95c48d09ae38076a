"""Iterative pruning with distillation between the rounds."""

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxopt.document import units
from onnxopt.graph.layers import anatomy_of
from onnxopt.importance import gradual_ratios
from onnxopt.options.training import Above0, AtLeast1, WeightTrainingOptions
from onnxopt.passes.distill import Distill, check_names
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.prune_weights import PruneWeights
from onnxopt.pipeline import Applied, Context, Edit, Effect, Need, Pass, Skip

_NEARLY = 1e-3


@dataclass(frozen=True)
class PruneGradually(WeightTrainingOptions, Pass):
    """Prune weights or channels in rounds, with distillation after each round; needs `train`.

    Round t of n reaches the share 1 - (1 - t/n)^3 of the final sparsity, so most weights are removed early: Zhu and
    Gupta, "To prune, or not to prune", 2017. Removed weights stay zero in training. The readers of removed channels are
    refitted by least squares before training, as in prune-channels.

    Attributes:
        sparsity: final share of zeros among the weights of each layer.
        macs: remaining share of the MACs; prunes channels instead of weights.
        rounds: number of rounds of pruning and training.
        epochs: number of passes over the samples in each round.
        scope: `local` = the same share of the weights of each layer, `global` = the smallest of all layers together.
        round_to: channels are kept in multiples of this number; `auto` is the width of the target's registers.
        exclude: names of nodes not to prune.
        samples: largest number of samples for the choice of channels.
    """

    name: ClassVar[str] = "prune-gradually"
    effect: ClassVar[Effect] = Effect.LOSSY
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CALIBRATION})

    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.8
    macs: Annotated[float, Field(gt=0, lt=1)] | None = None
    rounds: Annotated[int, Field(ge=1, le=100)] = 4
    epochs: Above0 = 3.0
    batch_size: AtLeast1 = 32
    scope: Literal["local", "global"] = "local"
    round_to: Literal["auto", 1, 2, 4, 8, 16, 32, 64] = "auto"
    exclude: tuple[str, ...] = ()
    samples: Annotated[int, Field(ge=2)] = 256

    def __post_init__(self) -> None:
        """Check the names of augmentations.

        Raises:
            UsageError: ONX101 a name is unknown.
        """
        check_names("augment", self.augment, ("flip", "crop", "cutout", "mixup"))

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Prune and train in turn; edits name the result of each round.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name, ONX108 torch is not installed.
        """
        import onnxopt.training  # noqa: F401  # fails early without torch

        learn = Distill(**{field.name: getattr(self, field.name) for field in fields(WeightTrainingOptions)})
        current = model
        edits, curve = list[Edit](), list[tuple[int, float, float]]()
        skipped: tuple[Skip, ...] = ()
        for number, share in enumerate(gradual_ratios(0.0, 1.0, self.rounds), 1):
            pruned, what = self._pruned(model, current, share, context)
            if pruned is None:
                continue
            skipped = pruned.skipped
            if not pruned.edits:
                continue
            trained = learn.apply(pruned.model, context)
            result = trained.edits[0].action if trained.edits else trained.skipped[0].reason
            edits.append(Edit(f"round {number}", f"{what}; {result}"))
            start = curve[-1][0] if curve else 0
            curve += [(start + step, loss, score) for step, loss, score in trained.curve]
            current = trained.model
        return Applied(current, tuple(edits), skipped, curve=tuple(curve))

    def _pruned(self, model: ir.Model, current: ir.Model, share: float, context: Context) -> tuple[Applied | None, str]:
        """Return the current model pruned to a share of the goal, and that share in words."""
        if self.macs is None:
            ratio = self.sparsity * share
            prune = PruneWeights(ratio=ratio, scope=self.scope, exclude=self.exclude)
            return prune.apply(current, context), f"{units.share(ratio, 1)} of the weights are zero"
        whole, now = anatomy_of(model).macs, anatomy_of(current).macs
        wanted = 1 - (1 - self.macs) * share
        if not whole or now <= wanted * whole * (1 + _NEARLY):
            return None, ""
        channels = PruneChannels(
            macs=wanted * whole / now, round_to=self.round_to, exclude=self.exclude, samples=self.samples
        )
        applied = channels.apply(current, context)
        left = anatomy_of(applied.model).macs / whole
        return applied, f"{units.share(left, 1)} of the multiply-accumulates remain"
