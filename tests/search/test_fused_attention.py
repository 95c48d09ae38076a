"""The attention of the best candidate becomes one node, and what follows is measured in that graph."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pytest

from onnxopt.catalog import format_passes, parse
from onnxopt.errors import ModelError
from onnxopt.options.search import Goal
from onnxopt.passes import fuse_attention
from onnxopt.pipeline import Context, Pipeline
from onnxopt.search import stages
from onnxopt.search.budget import Budget
from onnxopt.search.candidate_names import parts_of
from onnxopt.search.candidates import first_candidates, pruned, row_candidates, with_fused_attention
from onnxopt.search.optimize import search
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, SearchResult
from onnxopt.target import target_of
from tests import builders
from tests.search import fakes
from tests.search.fakes import Figures, World

OVER = Figures(speedup=4.0, drop=0.3, confidence=0.0)


def searched(figures: Mapping[str, Figures], *, attends: bool = True, **asked: object) -> SearchResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "attends", lambda model: attends)
        fakes.install(patch, World(figures))
        settings = Settings(Budget(0.01), confidence=0.7, target="x86-vnni", **asked)
        return search(fakes.model(), fakes.parts(), None, settings, None)


def tried(result: SearchResult) -> list[str]:
    return [trial.candidate.name for trial in result.trials]


def test_the_best_candidate_is_tried_with_its_attention_in_one_node() -> None:
    figures = {"a": Figures(speedup=1.5), "b": Figures(speedup=2.0), "b-attention": Figures(speedup=2.2)}
    result = searched(figures)
    assert tried(result) == list(figures)
    assert result.winner is not None
    assert result.winner.candidate.name == "b-attention"


@pytest.mark.parametrize("first", [Figures(speedup=2.05), Figures(speedup=1.5), OVER])
def test_where_the_standard_s_node_gains_little_the_runtime_s_is_tried(first: Figures) -> None:
    figures = {"a": Figures(speedup=2.0), "a-attention": first, "a-runtime-attention": Figures(speedup=2.2)}
    result = searched(figures)
    assert tried(result) == list(figures)
    assert result.winner is not None
    assert result.winner.candidate.name == "a-runtime-attention"


def test_channels_are_removed_in_the_graph_that_is_faster() -> None:
    figures = {"a": Figures(), "a-attention": Figures(speedup=2.2)}
    rest = {"pruned-to-75%+a-attention": OVER, "pruned-to-90%+a-attention": OVER}
    assert tried(searched({**figures, **rest}, prune=True)) == [*figures, *rest]
    slower = {"a": Figures(), "a-attention": Figures(speedup=1.9), "a-runtime-attention": Figures(speedup=1.9)}
    rest = {"pruned-to-75%+a": Figures(speedup=2.5), "pruned-to-50%+a": OVER, "pruned-to-65%+a": OVER}
    again = {"pruned-to-75%+a-attention": Figures(speedup=2.6)}
    assert tried(searched({**slower, **rest, **again}, prune=True)) == [*slower, *rest, *again]


def test_nothing_is_fused_without_attention_or_a_candidate_or_where_size_is_the_goal() -> None:
    assert tried(searched({"a": Figures()}, attends=False)) == ["a"]
    assert tried(searched({"a": OVER})) == ["a"]
    assert tried(searched({"a": Figures()}, goal=Goal.SIZE)) == ["a"]


@pytest.mark.parametrize(
    ("name", "attends"), [("transformer_17", True), ("gemm_mlp", False), ("residual_cnn", False), ("lstm", False)]
)
def test_a_model_attends_where_weights_of_a_softmax_multiply_values(name: str, attends: bool) -> None:
    assert fuse_attention.attends(builders.BUILDERS[name]()) is attends


@pytest.mark.parametrize(("form", "part"), [("portable", "attention"), ("runtime", "runtime-attention")])
def test_attention_is_fused_before_quantization_and_behind_pruning_and_once(
    form: Literal["portable", "runtime"], part: str
) -> None:
    for candidate in (*first_candidates(), *row_candidates(), pruned(first_candidates()[1], 0.5)):
        fused = with_fused_attention(candidate, form)
        assert fused is not None
        assert parts_of(fused.name)[-1] == part
        *_, last = fused.passes
        spec = parse(f"fuse-attention{{form={form},verify=no}}")[0]
        assert fused.passes.index(spec) == len(fused.passes) - (1 if last == spec else 2)
        assert tuple(one for one in fused.passes if one != spec) == candidate.passes
        assert parse(format_passes(fused.passes)) == fused.passes
        assert with_fused_attention(fused, form) is None


def test_the_fused_candidate_computes_the_same() -> None:
    model = builders.BUILDERS["transformer_17"]()
    fused = with_fused_attention(Candidate("simplify", parse("simplify{fuse=no}")), "portable")
    assert fused is not None
    samples = builders.samples_of(model, count=3)
    made = Pipeline(fused.passes).run(model, Context(target_of("x86-vnni"), samples)).model
    assert "Attention" in {node.op_type for node in made.graph}
    for feeds in samples.with_batch_size(1):
        expected, found = (builders.run(one, dict(feeds))[0] for one in (model, made))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_of_a_model_too_large_for_a_protobuf_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of the pass runs both graphs at once."""
    monkeypatch.setattr(fuse_attention, "fits_protobuf", lambda model: False)
    assert not fuse_attention.attends(builders.BUILDERS["transformer_17"]())


def test_a_graph_that_cannot_be_read_has_no_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(model: object) -> object:
        raise ModelError("ONX304", "unknown")

    monkeypatch.setattr(fuse_attention, "attentions", refused)
    assert not fuse_attention.attends(builders.BUILDERS["transformer_17"]())
