import numpy as np
import pytest

from onnxopt.training.augment import AUGMENTATIONS, augmented

IMAGES = np.random.default_rng(0).normal(size=(8, 3, 16, 12)).astype(np.float32)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
def test_images_change_and_keep_their_form(name, last):
    images = np.moveaxis(IMAGES, 1, -1) if last else IMAGES
    (found,) = augmented({"x": images}, [name], np.random.default_rng(1)).values()
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    assert not np.array_equal(found, images)
    (again,) = augmented({"x": images}, [name], np.random.default_rng(1)).values()
    assert np.array_equal(found, again)


def test_flip_mirrors_columns():
    found = AUGMENTATIONS["flip"](IMAGES, np.random.default_rng(0))
    mirrored = [not np.array_equal(a, b) for a, b in zip(found, IMAGES, strict=True)]
    assert 0 < sum(mirrored) < len(IMAGES)
    assert all(np.array_equal(a, b[..., ::-1]) for a, b, m in zip(found, IMAGES, mirrored, strict=True) if m)


def test_crop_moves_what_is_there():
    pixels = set(IMAGES[0].ravel().tolist())
    assert set(AUGMENTATIONS["crop"](IMAGES, np.random.default_rng(2))[0].ravel().tolist()) <= pixels


def test_cutout_leaves_the_rest():
    found = AUGMENTATIONS["cutout"](IMAGES, np.random.default_rng(0))
    assert ((found != IMAGES).any(axis=1).sum(axis=(1, 2)) == 9).all()  # a quarter of 12 columns, squared


def test_what_is_no_image_stays():
    feeds = {"ids": np.arange(12).reshape(3, 4), "mask": np.ones((3, 7, 9, 9), np.float32)}
    found = augmented(feeds, ["flip", "crop"], np.random.default_rng(0))
    assert all(found[name] is feeds[name] for name in feeds)
