"""Models of one folder write their weights into one file, what both have once."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from onnxopt.errors import FileError, ModelError
from onnxopt.model_file import load, refuse_changed_data, save, save_together, shared_data, size_of, size_together
from tests.builders import F, Net

SIZE = 64


def model(*seeds: int) -> ir.Model:
    """Return a chain of products, each with the matrix of a seed."""
    net, x = Net(0), "x"
    for seed in seeds:
        x = net.node(
            "MatMul", x, net.const(np.random.default_rng(seed).standard_normal((SIZE, SIZE)).astype(np.float32))
        )
    net.node("Relu", x, out="y")
    return net.model([("x", F, ["n", SIZE])], [("y", F, ["n", SIZE])])


def together(folder: Path, **models: ir.Model) -> tuple[Path, ...]:
    seen = list[Path]()
    named = {f"{name}.onnx": one for name, one in models.items()}
    made = save_together(named, folder, "both.onnx_data", provenance={name: {"passes": name} for name in named},
                         proofs=dict.fromkeys(named, seen.append))  # fmt: skip
    assert [path.name for path in seen] == list(named)
    return made


def answer(path: Path) -> np.ndarray:
    x = np.random.default_rng(9).standard_normal((2, SIZE)).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    return np.asarray(y)


def test_what_two_models_have_is_in_the_file_once(tmp_path: Path) -> None:
    one, two = together(tmp_path, one=model(1, 2), two=model(2, 3, 3))
    data = tmp_path / "both.onnx_data"
    assert data.stat().st_size == 3 * SIZE * SIZE * 4
    for path, seeds in ((one, (1, 2)), (two, (2, 3, 3))):
        save(model(*seeds), tmp_path / "alone.onnx", overwrite=True)
        np.testing.assert_array_equal(answer(path), answer(tmp_path / "alone.onnx"))
        refuse_changed_data(path)
    assert shared_data([one, two]) == data
    assert size_together([one, two]) == sum(file.stat().st_size for file in (one, two, data))
    assert size_together([one]) == size_of(one)
    assert load(one).metadata_props["onnxopt.passes"] == "one.onnx"


def test_behind_a_weight_that_is_there_already_the_next_takes_its_place(tmp_path: Path) -> None:
    _, two = together(tmp_path, one=model(1), two=model(1, 4, 1, 5))
    save(model(1, 4, 1, 5), tmp_path / "alone.onnx")
    np.testing.assert_array_equal(answer(two), answer(tmp_path / "alone.onnx"))
    assert (tmp_path / "both.onnx_data").stat().st_size == 3 * SIZE * SIZE * 4


def test_models_with_weights_of_their_own_share_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(model(1), tmp_path / f"{name}.onnx")
    assert shared_data([tmp_path / "one.onnx", tmp_path / "two.onnx"]) is None
    assert shared_data([tmp_path / "one.onnx"]) is None


def test_a_file_that_fails_its_check_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise ModelError("ONX306", f"bad {path.name}")

    names = {"one.onnx": model(1), "two.onnx": model(1)}
    with pytest.raises(ModelError, match="bad two"):
        save_together(names, tmp_path, "data", provenance={key: {} for key in names}, proofs={"two.onnx": fail})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["two.onnx", "data"])
def test_a_file_that_exists_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    names = {"one.onnx": model(1), "two.onnx": model(1)}
    with pytest.raises(FileError, match=f"ONX502.*{name}"):
        save_together(names, tmp_path, "data", provenance={key: {} for key in names}, proofs={})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"old")]


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="ONX503"):
        save_together({"a.onnx": model(1)}, tmp_path / "no", "data", provenance={"a.onnx": {}}, proofs={})
