"""Every part of every candidate name has a meaning in the legend, and the names say what was built."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from onnxopt.passes.prune_blocks import PruneBlocks
from onnxopt.passes.quantize_dynamic import QuantizeDynamic
from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.search.candidate_names import LEGEND, legend_line, legend_of, parts_of
from onnxopt.search.candidates import (
    ATTENTION,
    BLOCKS,
    PRUNED,
    between,
    first_candidates,
    keep_in_float,
    placed,
    pruned,
    recovered,
    row_candidates,
    shallower,
    shallower_in_sizes,
    with_fused_attention,
)
from onnxopt.search.mix.bits import FORMS
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.search.mix.mixer import Mixer, candidate_of, quantizer_of
from onnxopt.search.trial import Candidate
from onnxopt.solver import Group, LayerOptions, Mix, Problem


def mixed(base: Candidate, mode: str) -> Candidate:
    layer = LayerOptions(("a",), {"float": np.ones(2), "INT8": np.ones(2)}, {"float": 0.0, "INT8": 0.0})
    problem = Problem({"a": Group((0.0, 0.1), (0.0, 0.0))}, {"a": layer}, (), frozenset({"INT8"}))
    tables = CostTables(problem, 1.0, {"a": (0.0, 0.5)}, {}, ("a",), quantizer_of(base))
    return candidate_of(tables, Mix({"a": 1}, {"a": mode}), 2)


def bits() -> Candidate:
    layer = LayerOptions((), {"float": np.ones(()), "4 bits": np.ones(())}, {"float": 0.0, "4 bits": 0.0})
    tables = CostTables(Problem({}, {"a": layer}), 1.0, {}, {}, (), None, {"4 bits": FORMS["4 bits"]})
    return candidate_of(tables, Mix({}, {"a": "4 bits"}), 2)


def uniform_bits() -> Candidate:
    layers = {
        name: LayerOptions((), {"float": np.array(9.0), **costs}, {"float": 0.0, "4 bits": 1.0, "8 bits": 0.5})
        for name, costs in {
            "a": {"4 bits": np.array(2.0), "8 bits": np.array(3.0)},
            "b": {"8 bits": np.array(3.0)},
        }.items()
    }
    tables = CostTables(
        Problem({}, layers), 1.0, {}, {}, (), None, {form: FORMS[form] for form in ("4 bits", "8 bits")}
    )
    mixer = Mixer(lambda: tables, 2.0)
    assert mixer.next() is not None
    mixer.learn(good=True, share=0.9)
    found = mixer.uniform(1)
    assert found is not None
    return found


def every_candidate() -> Iterator[Candidate]:
    bases = (*first_candidates(), *row_candidates(), bits(), uniform_bits(), Candidate("float", ()))
    for base in bases:
        forms = [base]
        if any(isinstance(spec, QuantizeStatic) for spec in base.passes):
            forms += [placed(base), *(keep_in_float(base, ("n",) * count) for count in (1, 4, 16))]
        fused = [with_fused_attention(form, kind) for form in forms for kind in ATTENTION]
        forms += [form for form in fused if form is not None]
        yield from forms
        smaller = [pruned(form, macs) for form in forms for macs in (*PRUNED, between(1.0, PRUNED[0]))]
        smaller += [shallower(form, blocks) for form in (*forms, smaller[0]) for blocks in BLOCKS]
        smaller += [shallower_in_sizes(form, {1: "bc"}, ("a", "bcd")) for form in forms]
        smaller += [mixed(base, mode) for mode in ("float", "INT8")]
        yield from smaller
        yield from (recovered(candidate, 1000) for candidate in smaller)


def test_every_part_of_every_name_is_in_the_legend() -> None:
    used = {part for candidate in every_candidate() for part in parts_of(candidate.name)}
    assert used == set(LEGEND)


def test_a_shallower_candidate_is_first_measured_without_training() -> None:
    (static,) = (c for c in first_candidates() if c.name == "static-minmax")
    trained = recovered(pruned(static, 0.75), 10_000)
    assert shallower(trained, 0.92) == shallower(pruned(static, 0.75), 0.92)
    assert shallower(trained, 0.92).name == "blocks-to-92%+pruned-to-75%+static-minmax"


def test_blocks_of_one_size_go_and_those_of_others_stay() -> None:
    (static,) = (c for c in first_candidates() if c.name == "static-minmax")
    fewer = shallower_in_sizes(recovered(pruned(static, 0.75), 10_000), {1: ("d", "e")}, ("ab", "cde", "f"))
    assert fewer.name == "blocks-2-to-33%+pruned-to-75%+static-minmax"
    assert parts_of(fewer.name)[0] == "blocks-N-to-N%"
    assert fewer.passes[1] == PruneBlocks(count=2, exclude=("a", "b", "c", "f"))
    assert fewer.passes[2:] == pruned(static, 0.75).passes


def test_blocks_of_two_sizes_go_in_one_pass() -> None:
    (static,) = (c for c in first_candidates() if c.name == "static-minmax")
    fewer = shallower_in_sizes(static, {0: ("a",), 1: ("d", "e")}, ("ab", "cde", "f"))
    assert fewer.name == "blocks-1-to-50%+blocks-2-to-33%+static-minmax"
    assert parts_of(fewer.name)[:2] == ("blocks-N-to-N%", "blocks-N-to-N%")
    assert fewer.passes[1] == PruneBlocks(count=3, exclude=("b", "c", "f"))


def test_channels_of_a_shallower_trained_candidate_are_removed_before_one_training() -> None:
    (static,) = (c for c in first_candidates() if c.name == "static-minmax")
    narrower = pruned(recovered(shallower(static, 0.84), 10_000), 0.75)
    assert narrower == pruned(shallower(static, 0.84), 0.75)
    trained = recovered(narrower, 10_000)
    assert trained.name == "pruned-to-75%+distilled+blocks-to-84%+static-minmax"
    assert [spec.name for spec in trained.passes] == [
        *("simplify", "prune-channels", "simplify", "prune-blocks", "distill", "simplify", "quantize-static")
    ]


def test_a_share_between_two_is_a_multiple_of_a_twentieth() -> None:
    larger = (1.0, *PRUNED)
    assert [between(a, b) for a, b in pairwise(larger)] == [0.9, 0.65, 0.45, 0.3, 0.2]


def test_a_name_is_decoded_part_by_part() -> None:
    assert parts_of("pruned-to-35%+distilled+static-symmetric-entropy-tensor-placed") == (
        "pruned-to-N%", "distilled", "static", "symmetric-entropy", "tensor", "placed",
    )  # fmt: skip
    assert parts_of("mixed-2+dynamic-float-graph") == ("mixed-N", "dynamic", "float-graph")
    assert parts_of("blocks-to-92%+pruned-to-75%+float") == ("blocks-to-N%", "pruned-to-N%", "float")
    assert parts_of("pruned-to-50%+weights-4bit") == ("pruned-to-N%", "weights-Nbit")
    assert parts_of("static-minmax-keep16") == ("static", "minmax", "keepN")


@pytest.mark.parametrize("name", ["mine", "staticish", "static-entropy-mine", "keep4+mine"])
def test_a_name_of_other_origin_has_no_meaning(name: str) -> None:
    with pytest.raises(ValueError, match="unknown part"):
        parts_of(name)
    assert legend_of([name]) == ()


def test_the_legend_of_a_run_has_its_parts_alone() -> None:
    assert [part for part, _ in legend_of(["static-entropy-placed", "mine"])] == ["static", "entropy", "placed"]
    assert all(f"{part} = " in legend_line() for part in LEGEND)


def test_a_name_says_whether_weights_have_one_scale_per_tensor() -> None:
    for candidate in every_candidate():
        quantizers = [spec for spec in candidate.passes if isinstance(spec, QuantizeStatic | QuantizeDynamic)]
        parts = set(parts_of(candidate.name))
        assert bool(parts & {"tensor", "float-graph"}) == any(not spec.per_channel for spec in quantizers)
        assert bool(parts & {"static", "dynamic"}) == bool(quantizers)
        for spec in quantizers:
            assert not isinstance(spec, QuantizeStatic) or spec.method in parts


def test_a_mix_of_a_per_tensor_quantizer_is_named_so() -> None:
    base = next(c for c in first_candidates() if c.name == "static-entropy-tensor")
    assert mixed(base, "INT8").name == "mixed-2+static-entropy-tensor"
    channels = replace(base, passes=(QuantizeStatic(method="entropy"),))
    assert mixed(channels, "INT8").name == "mixed-2+static-entropy"


def test_the_page_about_the_search_has_the_legend() -> None:
    page = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    table = page.partition("<!-- names -->")[2].partition("<!-- end -->")[0]
    rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    assert rows == [[f"`{part}`", meaning] for part, meaning in LEGEND.items()]
