"""Hard sigmoids and scalings in several operators are found, merged, and give the same outputs."""

from collections import Counter

from onnxopt.repairs.split_operators import SplitOperators
from onnxopt.target import target_of
from tests import builders, numerics

TARGET = target_of("x86-vnni")


def test_the_parts_are_found_and_merged() -> None:
    model = builders.BUILDERS["hard_swish_9"]()
    found = SplitOperators().find(model, TARGET)
    assert len(found.where) == 6
    assert set(found.where) <= {node.name or node.outputs[0].name for node in model.graph}
    mended = SplitOperators().mended(model, found)
    ops = Counter(node.op_type for node in mended.graph)
    assert (ops["HardSigmoid"], ops["Mul"], ops["Add"], ops["Clip"], ops["Div"]) == (1, 1, 1, 0, 0)
    feeds = builders.feeds_of(model)
    before, after = (builders.run(m, feeds) for m in (model, mended))
    assert numerics.largest_difference(before, after) <= numerics.EXACT_RELATIVE


def test_the_search_for_them_changes_nothing() -> None:
    model = builders.BUILDERS["hard_swish_9"]()
    before = [node.op_type for node in model.graph]
    SplitOperators().find(model, TARGET)
    assert [node.op_type for node in model.graph] == before
    assert len(SplitOperators().find(model, TARGET).where) == 6


def test_other_models_have_none() -> None:
    assert not SplitOperators().find(builders.BUILDERS["residual_cnn"](), TARGET).sites
