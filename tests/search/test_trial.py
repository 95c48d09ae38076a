"""A candidate counts as changed by what its passes did, wherever in the recipe."""

from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Edit, Pass, Skip, Step
from onnxopt.search.trial import why_unchanged


def step(spec: Pass, *, done: bool) -> Step:
    return Step(spec, (Edit("a", "done"),) if done else (), () if done else (Skip("a", f"not {spec.name}"),), 0.0)


def test_a_pruned_model_is_another_even_if_nothing_of_it_pays_in_int8():
    steps = (step(Simplify(), done=True), step(PruneChannels(), done=True), step(QuantizeStatic(), done=False))
    assert why_unchanged(steps) is None


def test_to_simplify_is_a_candidate_of_its_own():
    steps = (step(Simplify(), done=True), step(QuantizeStatic(), done=False))
    assert why_unchanged(steps) == "not quantize-static"
    assert why_unchanged((step(Simplify(), done=True),)) is None
    assert why_unchanged((Step(Simplify(), (), (), 0.0),)) == "simplify has nothing to change"
