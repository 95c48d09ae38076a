import numpy as np
import pytest
from PIL import Image

from onnxopt.errors import DataError
from onnxopt.model_file import Signature, TensorSpec
from onnxopt.options.reading import ReadOptions
from onnxopt.samples import open_samples

SIGNATURE = Signature((TensorSpec("x", "float32", (None, 3, 8, 8)),), (TensorSpec("y", "float32", (None, 4, 8, 8)),))


def written(folder, masks, mode="L", ending=".png"):
    folder.mkdir(exist_ok=True)
    for name, mask in masks.items():
        image = Image.fromarray(np.asarray(mask, np.uint8))
        (image if mode == "L" else image.convert(mode)).save(folder / f"{name}{ending}")
    return folder


def halves(height=16, width=16):
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 3
    return mask


def images(folder, masks):
    return written(folder, masks, "RGB", ".jpg")


def test_masks_find_their_images_by_name_and_keep_their_numbers(tmp_path):
    masks = {"b": halves(), "a": np.full((16, 16), 2), "other": np.zeros((16, 16))}
    data = images(tmp_path / "x", {"a": halves(), "b": halves()})
    labels = open_samples(data, SIGNATURE, labels=written(tmp_path / "y", masks)).labels
    assert labels.shape == (2, 8, 8)
    np.testing.assert_array_equal(labels[0], np.full((8, 8), 2))
    np.testing.assert_array_equal(labels[1], halves(8, 8))


def test_masks_are_placed_as_the_pixels_are(tmp_path):
    masks = {"a": halves(16, 32)}
    data, folder = images(tmp_path / "x", masks), written(tmp_path / "y", masks)
    (boxed,) = open_samples(data, SIGNATURE, labels=folder, options=ReadOptions(resize="letterbox")).labels
    np.testing.assert_array_equal(boxed[2:6], halves(4, 8))
    assert set(np.unique(boxed[[0, 1, 6, 7]])) == {255}
    (cropped,) = open_samples(data, SIGNATURE, labels=folder, options=ReadOptions(resize="crop")).labels
    np.testing.assert_array_equal(cropped, halves(8, 8))


def test_a_palette_is_no_matter(tmp_path):
    image = Image.fromarray(halves(), "P")
    image.putpalette([7] * 768)
    (tmp_path / "y").mkdir()
    image.save(tmp_path / "y" / "a.png")
    data = images(tmp_path / "x", {"a": halves()})
    np.testing.assert_array_equal(open_samples(data, SIGNATURE, labels=tmp_path / "y").labels[0], halves(8, 8))


def test_arrays_take_masks_in_the_order_of_names(tmp_path):
    folder = written(tmp_path / "y", {"1": np.full((8, 8), 1), "0": np.zeros((8, 8))})
    labels = open_samples(np.zeros((2, 3, 8, 8), np.float32), SIGNATURE, labels=folder).labels
    assert labels[:, 0, 0].tolist() == [0, 1]


def test_missing_coloured_damaged_and_uneven_masks_are_refused(tmp_path):
    data = images(tmp_path / "x", {"a": halves(), "b": halves()})
    with pytest.raises(DataError, match=r"ONX206.*no mask of 'b\.jpg'"):
        open_samples(data, SIGNATURE, labels=written(tmp_path / "one", {"a": halves()}))
    with pytest.raises(DataError, match=r"ONX206.*mode RGB.*class number"):
        open_samples(data, SIGNATURE, labels=written(tmp_path / "rgb", {"a": halves(), "b": halves()}, "RGB"))
    broken = written(tmp_path / "broken", {"a": halves()})
    (broken / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"ONX206.*not a readable mask"):
        open_samples(data, SIGNATURE, labels=broken)
    arrays = np.zeros((2, 3, 8, 8), np.float32)
    uneven = written(tmp_path / "uneven", {"a": halves(), "b": halves(8, 8)})
    with pytest.raises(DataError, match=r"ONX206.*differ in size"):
        open_samples(arrays, SIGNATURE, labels=uneven)
    with pytest.raises(DataError, match=r"ONX206.*1 masks for 2 samples"):
        open_samples(arrays, SIGNATURE, labels=tmp_path / "one")


@pytest.mark.parametrize(("shape", "kind"), [((None, 25, 30), "U"), ((25, None, 30), "U"), ((None, 3), "i")])
def test_texts_stay_where_every_step_is_scored(shape, kind):
    signature = Signature(SIGNATURE.inputs, (TensorSpec("y", "float32", shape),))
    texts = np.array(["the cat", "a dog", "birds"])
    labels = open_samples(np.zeros((3, 3, 8, 8), np.float32), signature, labels=texts).labels
    assert labels.dtype.kind == kind


def test_names_of_classes_stay_classes_where_there_are_as_many():
    signature = Signature(SIGNATURE.inputs, (TensorSpec("y", "float32", (None, 1, 3)),))
    labels = open_samples(np.zeros((3, 3, 8, 8), np.float32), signature, labels=np.array(["c", "a", "b"])).labels
    assert labels.tolist() == [2, 0, 1]
