"""The effect of recovery: the winner built again without it."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from onnxopt.errors import ModelError, NativeError
from onnxopt.passes.distill import Distill
from onnxopt.passes.factorize import Factorize
from onnxopt.passes.finetune import Finetune
from onnxopt.passes.prune_blocks import PruneBlocks
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.prune_whole_units import PruneGroups, PruneHeads
from onnxopt.passes.reconstruct_blocks import ReconstructBlocks
from onnxopt.pipeline import Pass
from onnxopt.search.journal.notes import numbers
from onnxopt.search.trial import Candidate, Trial
from onnxopt.search.trials import Trials

ALONE, COMPENSATED, TRAINED = "nothing", "least squares", "training"
"""Recovery methods up to each stage."""

_TRAINING = (Distill, Finetune, ReconstructBlocks)


def recovery_by_stage(trials: Trials, winner: Trial) -> tuple[tuple[str, float], ...]:
    """Return the winner's drop without recovery and after each recovery stage."""
    assert winner.drop is not None

    def drop_of(candidate: Candidate) -> list[float]:
        try:
            return [float(trials.judge.drop(trials.judge.evaluate(trials.build(candidate))).value)]
        except (ModelError, NativeError):
            return []

    found = list[tuple[str, float]]()
    for stage, candidate in stages_before(winner.candidate):
        if trials.deadline.over():
            return ()
        drop = trials.deadline.in_time(partial(trials.recall, candidate.name, partial(drop_of, candidate), numbers))
        if drop is None:
            return ()
        found += [(stage, value) for value in drop]
    return (*found, (last_stage(winner.candidate), winner.drop.value)) if found else ()


def stages_before(winner: Candidate) -> Iterator[tuple[str, Candidate]]:
    """Yield the winner without recovery, then with all but the last recovery stage; nothing without recovery."""
    untrained = tuple(p for p in winner.passes if not isinstance(p, _TRAINING))
    alone = tuple(_alone(p) for p in untrained)
    if alone != untrained:
        yield ALONE, Candidate(f"{winner.name} without recovery", alone)
    if untrained != winner.passes:
        kept = COMPENSATED if alone != untrained else ALONE
        yield kept, Candidate(f"{winner.name} without training", untrained)


def last_stage(winner: Candidate) -> str:
    """Return the last stage of the winner's recovery."""
    return TRAINED if any(isinstance(p, _TRAINING) for p in winner.passes) else COMPENSATED


def _alone(spec: Pass) -> Pass:
    if isinstance(spec, PruneBlocks | PruneChannels | PruneGroups | PruneHeads) and spec.compensate != "none":
        return replace(spec, compensate="none")
    return replace(spec, data_aware=False) if isinstance(spec, Factorize) and spec.data_aware else spec
