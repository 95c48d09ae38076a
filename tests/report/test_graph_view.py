from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from onnxopt.record.analysis import GraphRecord, NodeRecord
from onnxopt.report.graph_layout import GAP_X, HEIGHT, WIDTH, layout
from onnxopt.report.graph_view import MOST_DRAWN, graph_views


@st.composite
def graphs(draw):
    size = draw(st.integers(0, 40))
    return [sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(size)]


@given(graphs())
def test_nodes_never_overlap_and_edges_go_down(inputs):
    found = layout(inputs)
    assert len(found.places) == len(inputs)
    rows: dict[float, list[float]] = {}
    for x, y in found.places:
        assert WIDTH / 2 - 0.01 <= x <= found.size[0]
        assert HEIGHT / 2 <= y <= found.size[1]
        rows.setdefault(y, []).append(x)
    for xs in rows.values():
        ordered = sorted(xs)
        assert all(b - a >= WIDTH + GAP_X - 0.01 for a, b in pairwise(ordered))
    assert len(found.edges) == sum(map(len, inputs))
    for start, end, _ in found.edges:
        assert found.places[start][1] < found.places[end][1]


def test_a_chain_is_straight():
    found = layout([[], [0], [1], [2]])
    assert len({x for x, _ in found.places}) == 1


def test_nodes_are_coloured_by_what_was_done(explained_record):
    before, after = graph_views(explained_record)
    assert before.counts["int8"] > 0
    assert before.counts["gone"] > 0
    assert after.counts["int8"] == before.counts["int8"]
    assert "QuantizeLinear" not in str(after.svg)
    assert "Conv to INT8" in str(before.svg)


def test_without_a_winner_only_the_original_is_drawn(explained_record):
    analysis = explained_record.analysis.model_copy(update={"after": None})
    kept = explained_record.model_copy(update={"winner": None, "analysis": analysis, "status": "kept-original"})
    views = graph_views(kept)
    assert len(views) == 1
    assert views[0].counts["gone"] == 0


def test_long_chains_of_untouched_nodes_are_folded(explained_record):
    size = MOST_DRAWN + 500
    nodes = tuple(NodeRecord(name=f"n{i}", op_type="Relu", inputs=(i - 1,) if i else ()) for i in range(size))
    analysis = explained_record.analysis.model_copy(update={"before": GraphRecord(nodes=nodes), "after": None})
    kept = explained_record.model_copy(update={"winner": None, "trials": (), "analysis": analysis})
    (view,) = graph_views(kept)
    assert view.title == f"Before: {size} nodes"
    assert str(view.svg).count("<rect") == 1
    assert f"{size} nodes" in str(view.svg)
