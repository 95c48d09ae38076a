"""The use case: found, mended, measured together, saved or left."""

import numpy as np
import onnx
import pytest

import onnxopt
from onnxopt.errors import FileError, UsageError
from onnxopt.model_file import load, to_bytes, to_proto
from onnxopt.tasks.repair import repair
from tests import builders
from tests.repairs.quantized import clock, qdq_cnn


@pytest.fixture
def signed(tmp_path):
    path = tmp_path / "signed.onnx"
    path.write_bytes(to_bytes(qdq_cnn(zero=-128, branch=True)))
    return path


def test_a_faster_file_is_written_with_equal_outputs(signed, tmp_path) -> None:
    out = tmp_path / "mended.onnx"
    done = repair(signed, out=out, target="x86-vnni", clock=clock(3.0))
    assert [one.repair.code for one in done.kept] == ["CHK401", "CHK412"]
    assert (done.moved, done.speed.value) == (0.0, 3.0)
    assert done.files[0] == out
    feeds = builders.feeds_of(load(signed))
    np.testing.assert_array_equal(builders.run(load(signed), feeds)[0], builders.run(load(out), feeds)[0])
    notes = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert notes["onnxopt.passes"] == "repair CHK401,CHK412"


def test_without_a_gain_the_original_is_kept_and_nothing_written(signed, tmp_path) -> None:
    out, before = tmp_path / "mended.onnx", signed.read_bytes()
    done = repair(signed, out=out, target="x86-vnni", clock=clock(1.0))
    assert not done.kept
    assert done.files == ()
    assert not out.exists()
    assert signed.read_bytes() == before
    assert done.reason == "no repair helps: the original is kept"


def test_a_file_without_faults_is_left_alone(tmp_path) -> None:
    done = repair(builders.BUILDERS["static_batch"](), clock=clock(2.0))
    assert done.tried == ()
    assert done.reason.startswith("none of the faults that can be mended")


def test_all_repairs_together_must_be_worth_it(signed) -> None:
    # Alone each is faster; together they are measured as slower.
    calls = []

    def measured(before, after):
        calls.append(after)
        return clock(2.0 if len(calls) <= 3 else 0.5)(before, after)

    model = load(signed)
    model.graph.register_initializer(_unread())
    done = repair(model, target="x86-vnni", clock=measured)
    assert len(done.tried) == 3
    assert len(calls) == 4
    assert not done.kept
    assert all("together" in one.reason for one in done.tried)
    assert to_bytes(done.model) == to_bytes(model)


def _unread():
    import onnx_ir as ir

    from onnxopt.graph.edit import set_weight

    value = ir.Value(name="unread")
    set_weight(value, np.zeros(4096, np.float32))
    return value


def test_a_protobuf_stays_as_it_is_and_nothing_need_be_written(signed) -> None:
    proto = to_proto(load(signed))
    before = proto.SerializeToString()
    done = onnxopt.repair(proto, target="x86-vnni", clock=clock(2.0))
    assert proto.SerializeToString() == before
    assert done.kept
    assert done.files == ()
    assert "CHK401" in done._repr_html_()


def test_a_dry_run_writes_nothing(signed, tmp_path) -> None:
    out = tmp_path / "mended.onnx"
    done = repair(signed, out=out, target="x86-vnni", clock=clock(2.0), dry_run=True)
    assert done.kept
    assert not out.exists()


def test_an_output_that_exists_is_refused_before_anything_is_done(signed, tmp_path) -> None:
    out = tmp_path / "there.onnx"
    out.write_bytes(b"precious")
    with pytest.raises(FileError, match="ONX502"):
        repair(signed, out=out, clock=clock(2.0))
    assert out.read_bytes() == b"precious"
    with pytest.raises(FileError, match="ONX504"):
        repair(signed, out=signed, overwrite=True, clock=clock(2.0))


def test_for_another_processor_integers_move_without_a_clock(tmp_path) -> None:
    done = repair(qdq_cnn(np.uint8, zero=131), target="arm64-dotprod")
    assert [one.repair.code for one in done.kept] == ["CHK401"]
    assert done.speed is None
    assert "times are measured on" in done.reason


def test_given_samples_are_compared_too(signed) -> None:
    data = {"x": np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)}
    done = repair(signed, data=data, target="x86-vnni", clock=clock(2.0))
    assert 3 + 4 <= done.batches <= 3 + 16


def test_a_model_that_runs_on_no_made_up_input_needs_data() -> None:
    net = builders.Net(3)
    net.node("Reshape", "x", net.ints(7, -1), out="y")
    model = net.model([("x", builders.F, ["batch", 5])], [("y", builders.F, None)])
    with pytest.raises(UsageError, match=r"ONX114.*runs on no input.*[Rr]eshape"):
        repair(model, clock=clock(2.0))


def test_a_change_that_makes_no_sense_is_refused(signed) -> None:
    with pytest.raises(UsageError, match="ONX101"):
        repair(signed, max_change=1.5)


def test_the_table_says_what_was_found_and_why_it_was_undone(signed) -> None:
    document = repair(signed, target="x86-vnni", clock=clock(0.9)).document
    row = document.data["repairs"][0]
    assert row["code"] == "CHK401"
    assert row["kept"] is False
    assert row["reason"] == "not faster beyond doubt"
    assert row["change"] == 0.0
    assert document.data["files"] == []
    text = " ".join(document.blocks[-1].lines)
    assert "no repair helps: the original is kept" in text
    assert "move activations by 128" in text
