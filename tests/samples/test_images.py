"""Folders of images."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_signatures import DIGITS, IMAGES, PAIR, TABULAR, one

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import Signature
from onnxopt.samples import ReadOptions, open_samples

RAW = ReadOptions(divide_by=1)


def picture(path: Path, shape: tuple[int, ...] = (16, 16, 3), seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def read(folder: Path, model: Signature, options: ReadOptions = RAW) -> np.ndarray:
    return next(iter(open_samples(folder, model, options=options)))["x"]


def test_classes_are_sub_folders_in_sorted_order(tmp_path: Path) -> None:
    for seed, name in enumerate(("dog/b.png", "ant/2.png", "dog/a.PNG", "ant/1.png", "cat/x.png")):
        picture(tmp_path / name, seed=seed)
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "dog" / "._a.png").write_text("no image either")
    samples = open_samples(tmp_path, IMAGES)
    assert samples.labels.tolist() == [0, 0, 1, 2, 2]
    assert [f.name for f in samples.source.source.files] == ["1.png", "2.png", "x.png", "a.PNG", "b.png"]


def test_labels_csv(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "sub" / f"{name}.png")
    (tmp_path / "labels.csv").write_text("file,label\nsub/c.png,7\nsub/a.png,2\n")
    samples = open_samples(tmp_path, IMAGES)
    assert samples.labels.tolist() == [7, 2]
    (tmp_path / "labels.csv").write_text("file,label\nsub/z.png,7\n")
    with pytest.raises(DataError, match=r"ONX201.*z\.png"):
        open_samples(tmp_path, IMAGES)
    (tmp_path / "labels.csv").write_text("path,class\nsub/a.png,7\n")
    with pytest.raises(DataError, match=r"ONX206.*columns: path, class"):
        open_samples(tmp_path, IMAGES)


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    assert open_samples(tmp_path, IMAGES).labels is None
    np.testing.assert_array_equal(open_samples(tmp_path, IMAGES, labels=[4, 2]).labels, [4, 2])
    picture(tmp_path / "dog" / "c.png")
    with pytest.raises(DataError, match=r"ONX206.*a\.png"):
        open_samples(tmp_path, IMAGES)


def test_layouts_and_normalization(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png").astype(np.float32)
    np.testing.assert_array_equal(read(tmp_path, IMAGES)[0], pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(read(tmp_path, one(None, 16, 16, 3))[0], pixels)
    np.testing.assert_allclose(read(tmp_path, IMAGES, ReadOptions())[0], pixels.transpose(2, 0, 1) / 255, rtol=1e-6)
    options = ReadOptions(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), channel_order="bgr")
    wanted = (pixels[..., ::-1] / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(read(tmp_path, one(None, 16, 16, 3), options)[0], wanted, rtol=1e-5, atol=1e-6)


def test_whole_number_inputs_get_pixels(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    x = read(tmp_path, one(1, 16, 16, 3, dtype="uint8"), ReadOptions())
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x[0], pixels)
    with pytest.raises(UsageError, match=r"ONX112.*uint8"):
        read(tmp_path, one(1, 16, 16, 3, dtype="uint8"), ReadOptions(mean=(0.5,)))


def test_grey(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", (8, 8))
    np.testing.assert_array_equal(read(tmp_path, DIGITS)[0, 0], pixels)
    with pytest.raises(UsageError, match=r"ONX101.*more channels"):
        read(tmp_path, DIGITS, ReadOptions(mean=(1, 2, 3)))


def test_other_modes_become_rgb(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (16, 16, 4))
    picture(tmp_path / "b.png", (16, 16))
    Image.fromarray(np.zeros((16, 16), np.uint8)).convert("P").save(tmp_path / "c.gif")
    assert read(tmp_path, IMAGES).shape == (3, 3, 16, 16)


def test_resizing(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", (20, 30, 3))
    image = Image.fromarray(pixels)
    model = one(None, 16, 16, 3)
    squash = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read(tmp_path, model)[0], squash)
    crop = ReadOptions(resize="crop", divide_by=1)
    np.testing.assert_array_equal(read(tmp_path, model, crop)[0], pixels[2:18, 7:23])
    shortest = ReadOptions(resize="crop", shortest_side=18, divide_by=1)
    smaller = np.asarray(image.resize((27, 18), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read(tmp_path, model, shortest)[0], smaller[1:17, 5:21])
    # An image smaller than the crop is enlarged, not padded.
    assert read(tmp_path, one(None, 64, 64, 3), crop).min() > 0 or pixels.min() == 0


@pytest.mark.parametrize("size", [12, (12, 10), None])
def test_size_of_a_free_model(tmp_path: Path, size: int | tuple[int, int] | None) -> None:
    picture(tmp_path / "a.png", (20, 30, 3))
    wanted = {12: (12, 12), (12, 10): (12, 10), None: (20, 30)}[size]
    assert read(tmp_path, one(None, 3, "h", "w"), ReadOptions(size=size)).shape[2:] == wanted


def test_layout_that_cannot_be_read_from_the_model(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    free = one(None, None, None, None)
    with pytest.raises(UsageError, match=r"ONX113.*NCHW or NHWC"):
        read(tmp_path, free)
    assert read(tmp_path, free, ReadOptions(layout="NHWC")).shape == (1, 16, 16, 3)
    with pytest.raises(DataError, match=r"ONX203.*16 channels"):
        read(tmp_path, IMAGES, ReadOptions(layout="NHWC", size=3))


@pytest.mark.parametrize("model", [TABULAR, PAIR, one(None, 5, 16, 16, name="x")])
def test_models_that_take_no_images(tmp_path: Path, model: Signature) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises((DataError, UsageError), match=r"ONX203|ONX113"):
        open_samples(tmp_path, model)


def test_damaged_images(tmp_path: Path) -> None:
    for seed in range(3):
        picture(tmp_path / f"{seed}.png", seed=seed)
    good = (tmp_path / "1.png").read_bytes()
    for content in (b"", b"hello", good[: len(good) // 2]):
        (tmp_path / "1.png").write_bytes(content)
        samples = open_samples(tmp_path, IMAGES)
        with pytest.raises(DataError, match=r"ONX201: not a readable image.*1\.png"):
            list(samples)


def test_deep_images_are_refused_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 5000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"ONX204.*8 bits"):
        open_samples(tmp_path, DIGITS)


def test_missing_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(UsageError, match=r'ONX108.*PIL.*pip install "onnxopt\[images\]"'):
        open_samples(tmp_path, IMAGES)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    model = one("batch", 3, 128, 128)
    peaks = []
    for count in (4, 40):
        folder = tmp_path / str(count)
        for seed in range(count):
            picture(folder / f"{seed}.png", (128, 128, 3), seed)
        samples = open_samples(folder, model, batch_size=2)
        list(samples.take(2))
        tracemalloc.start()
        assert sum(len(feeds["x"]) for feeds in samples) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
