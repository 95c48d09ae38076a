import numpy as np
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.graph.channel_cut import masked
from onnxopt.model_file import to_bytes
from onnxopt.passes import prune_channels
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.pipeline import Applied, Context, Pipeline
from onnxopt.quantization.isa import target_of
from tests import builders, numerics

CONTEXT = Context(target_of("x86-vnni"), seed=5)
SMALL = PruneChannels(ratio=0.5, round_to=1)


def applied(spec: PruneChannels, builder: str = "residual_cnn") -> Applied:
    return spec.apply(builders.BUILDERS[builder](), CONTEXT)


@pytest.mark.parametrize("importance", ["l1", "l2", "random"])
@pytest.mark.parametrize("name", builders.BUILDERS)
def test_every_builder_model_is_pruned_and_runs_or_says_why_not(name, importance):
    model = builders.BUILDERS[name]()
    feeds = builders.feeds_of(model, batch=1 if name in builders.RUNS_AT_ONE_ONLY else 2)
    expected = builders.run(model, feeds)
    (spec,) = parse(f"prune-channels{{ratio=0.5,round_to=1,importance={importance}}}")
    result = Pipeline((spec,)).run(model, CONTEXT)
    (step,) = result.steps
    assert step.edits or step.skipped or name == "nothing_to_do"
    assert not [skip for skip in step.skipped if "not removed" in skip.reason]
    assert (to_bytes(result.model) == to_bytes(model)) == (not step.edits)
    for optimized in (False, True):
        found = builders.run(result.model, feeds, optimized)
        assert [getattr(f, "shape", None) for f in found] == [getattr(e, "shape", None) for e in expected]


def test_a_ratio_of_zero_does_nothing():
    model = builders.BUILDERS["residual_cnn"]()
    assert PruneChannels(ratio=0).apply(model, CONTEXT).model is model


def test_half_of_the_channels_go():
    result = applied(SMALL)
    shapes = [w.const_value.shape.numpy() for w in result.model.graph.initializers.values() if len(w.shape) == 4]
    assert shapes == [(4, 3, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3)]
    assert [edit.action for edit in result.edits] == [
        "4 of 8 channels removed, shared with Conv_6",
        "4 of 8 channels removed",
    ]


def test_the_least_important_channels_go():
    model = builders.BUILDERS["gemm_mlp"]()
    weights = [v.const_value.numpy() for v in model.graph.initializers.values()]
    scores = np.abs(weights[0]).sum(1) + np.abs(weights[2]).sum(1)
    best = np.sort(np.argsort(-scores)[:8])
    after = [v.const_value.numpy() for v in SMALL.apply(model, CONTEXT).model.graph.initializers.values()]
    assert np.array_equal(after[0], weights[0][best])


def test_channels_are_kept_in_multiples_of_the_registers_width():
    result = applied(PruneChannels(ratio=0.5), "gemm_mlp")
    assert {skip.reason for skip in result.skipped} >= {"16 units, kept in multiples of 16, are not too many"}
    arm = PruneChannels(ratio=0.5).apply(builders.BUILDERS["gemm_mlp"](), Context(target_of("arm64-neon")))
    assert [(e.target, e.action) for e in arm.edits] == [
        ("Gemm_0", "8 of 16 channels removed"),
        ("Gemm_2", "4 of 12 channels removed"),
    ]


def test_excluded_nodes_keep_their_channels():
    result = applied(PruneChannels(ratio=0.5, round_to=1, exclude=("Conv_6",)))
    assert [edit.target for edit in result.edits] == ["Conv_3"]
    assert result.skipped[0].reason == "excluded"
    with pytest.raises(UsageError, match="ONX102"):
        applied(PruneChannels(exclude=("Conv_55",)))


def test_a_wrong_cut_is_undone(monkeypatch):
    """The proof is what stands between a mistake in a rule and the user."""
    right = prune_channels.cut_channels

    def wrong(channels, kept):
        if "Conv_3" in kept:
            kept = {**kept, "Conv_3": [(u + 1) % 8 for u in kept["Conv_3"]]}
        return right(channels, kept)

    monkeypatch.setattr(prune_channels, "cut_channels", wrong)
    result = applied(SMALL)
    assert [edit.target for edit in result.edits] == ["Conv_0"]
    assert [s.target for s in result.skipped if "differ from the masked model" in s.reason] == ["Conv_3"]


def test_masks_change_the_outputs():
    model = builders.BUILDERS["residual_cnn"]()
    feeds = builders.feeds_of(model)
    pair = builders.run(model, feeds), builders.run(masked(model, {"Conv_0": [0, 1], "Conv_3": [3]}), feeds)
    assert numerics.largest_difference(*pair) > 0.01
