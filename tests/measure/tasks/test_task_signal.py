import numpy as np
import pytest
from judged import OPTIONS, facts, lost, rows_of, score

from onnxopt.errors import DataError
from onnxopt.measure.tasks import signal
from onnxopt.measure.tasks.named import metric_of
from onnxopt.measure.tasks.signal import SignalAgreement
from onnxopt.measure.tasks.signal.channels import si_sdr
from onnxopt.measure.tasks.task import TaskOptions

RNG = np.random.default_rng(0)
SOUND = SignalAgreement("y", "sound")
IMAGE = SignalAgreement("y", "image")
SPECTRUM = SignalAgreement("y", "sound", domain="spectrum")


def clips(n=8, length=2000):
    time = np.arange(length) / 1000
    pitch = RNG.uniform(5, 80, (n, 3, 1))
    return np.sin(2 * np.pi * pitch * time + RNG.uniform(0, 6, (n, 3, 1))).sum(axis=1)[:, None].astype(np.float32)


def noisy(one, db):
    noise = RNG.normal(size=one.shape)
    axes = tuple(range(1, one.ndim))
    size = np.sqrt(one.var(axis=axes, keepdims=True) / (noise**2).mean(axis=axes, keepdims=True))
    return (one + noise * size * 10 ** (-db / 20)).astype(np.float32)


def measured(name, outputs, labels):
    metric = metric_of(name)
    return metric.value(metric.rows({"y": outputs}, labels))


@pytest.mark.parametrize(("db", "points"), [(40, 1), (30, 3.162), (20, 10)])
def test_points_are_decibels_of_error(db, points):
    one = clips()
    assert 100 * (1 - score(SOUND, one, noisy(one, db))) == pytest.approx(points, rel=1e-3)


def test_si_sdr_agrees_with_its_formula():
    truth, found = RNG.normal(size=(5, 300)), RNG.normal(size=(5, 300))
    found = found + truth
    centred = (array - array.mean(axis=1, keepdims=True) for array in (truth, found))
    for one, other, ratio in zip(*centred, si_sdr(truth, found), strict=True):
        target = np.dot(other, one) / np.dot(one, one) * one
        assert ratio == pytest.approx(10 * np.log10(np.dot(target, target) / np.dot(other - target, other - target)))
    assert measured("si-sdr", found[:, None], truth) == pytest.approx(si_sdr(truth, found).mean())


def test_psnr_agrees_with_its_definition():
    truth = RNG.integers(0, 256, (4, 3, 8, 8)).astype(np.uint8)
    found = truth + RNG.normal(0, 5, truth.shape)
    squares = ((found - truth) ** 2).reshape(4, -1).mean(axis=1)
    assert measured("psnr", found, truth) == pytest.approx((10 * np.log10(255**2 / squares)).mean())
    assert measured("psnr", found / 255, truth / 255) == pytest.approx((10 * np.log10(255**2 / squares)).mean())


def test_a_louder_signal_differs_though_si_sdr_does_not_see_it():
    one = clips()
    assert lost(SOUND, one, 1.5 * one).value == pytest.approx(0.5, rel=1e-4)
    assert lost(SPECTRUM, one, 1.5 * one).value == pytest.approx(0.5, rel=1e-4)
    assert SOUND.details(rows_of(SOUND, one, 1.5 * one))["SI-SDR, dB"] > 60


def test_the_spectrum_leaves_phase_out():
    one = clips()
    assert score(SOUND, one, -one) == 0
    assert score(SPECTRUM, one, -one) == pytest.approx(1)
    assert score(SPECTRUM, one, noisy(one, 0)) < 0.5


def test_the_worst_channel_counts():
    one = RNG.normal(size=(6, 3, 16, 16)).astype(np.float32)
    other = one.copy()
    other[:, 1] = noisy(one[:, 1], 20)
    assert score(IMAGE, one, other) == pytest.approx(0.9, abs=1e-3)
    last = SignalAgreement("y", "image", -1)
    assert score(last, np.moveaxis(one, 1, -1), np.moveaxis(other, 1, -1)) == pytest.approx(0.9, abs=1e-3)


def test_a_mean_brightness_is_no_signal():
    one = (200 + RNG.normal(size=(6, 1, 16, 16))).astype(np.float32)
    assert score(IMAGE, one, np.full_like(one, 200)) < 0.1


def test_silence_is_measured_against_the_sound_around_it():
    one = np.concatenate((clips(), np.zeros((1, 1, 2000), np.float32)))
    hum = one.copy()
    hum[-1] = 1e-5
    assert score(SOUND, one, hum) > 0.99
    hum[-1] = RNG.normal(size=2000)
    assert score(SOUND, one, hum) == pytest.approx(1 - 1 / 9)
    assert score(SOUND, np.zeros_like(one), np.zeros_like(one)) == 1


def test_psnr_of_agreement_is_relative_to_the_baselines_range():
    one = RNG.random((3, 3, 8, 8)).astype(np.float32) * 255
    other = one + 2.55
    peak = (one.max(axis=(1, 2, 3)) - one.min(axis=(1, 2, 3))).max()
    details = IMAGE.details(rows_of(IMAGE, one, other))
    assert details["PSNR, dB"] == pytest.approx(20 * np.log10(peak / 2.55), rel=1e-4)


def test_nan_and_another_length_keep_nothing():
    one = clips()
    broken = one.copy()
    broken[:] = np.nan
    assert score(SOUND, one, broken) == 0
    assert score(SOUND, one, one[:, :, :100]) == 0


def recognized(value, feeds, name="y", options=OPTIONS, **fact):
    return signal.recognize({name: value}, feeds, facts(name, **fact), options)


def test_sound_is_recognized_by_name_and_by_free_length():
    mel = {"mel": RNG.normal(size=(8, 20, 24)).astype(np.float32)}
    assert recognized(clips(), mel, "audio").comparison == SignalAgreement("audio", "sound")
    assert recognized(clips(), mel, shape=("N", 1, None), ends=("Tanh",)).comparison == SOUND
    assert recognized(clips()[:, 0], mel, shape=("N", "T"), ends=("Tanh",)).task == "signal"
    by_spectrum = recognized(clips(), mel, "audio", options=TaskOptions(signal="spectrum"))
    assert by_spectrum.comparison.domain == "spectrum"


def test_images_are_recognized_by_the_input_or_the_end():
    image = {"x": RNG.random((2, 3, 16, 16)).astype(np.float32)}
    assert recognized(RNG.random((2, 3, 16, 16), np.float32), image).comparison == IMAGE
    assert recognized(RNG.random((2, 3, 32, 32), np.float32), image).comparison == IMAGE
    assert recognized(RNG.random((2, 16, 16, 3), np.float32), {"x": np.zeros((2, 16, 16, 3), np.float32)}) is not None
    latent = {"z": RNG.normal(size=(2, 64)).astype(np.float32)}
    assert recognized(RNG.random((2, 3, 64, 64), np.float32), latent, ends=("Tanh",)).comparison == IMAGE


@pytest.mark.parametrize(
    ("shape", "ends", "declared"),
    [
        ((4, 10), ("Gemm",), ("N", 10)),
        ((4, 1000), ("Gemm",), ("N", 1000)),
        ((4, 1000), ("Tanh",), ("N", 1000)),
        ((4, 4), ("Tanh",), ("N", None)),
        ((4, 1, 16, 16), ("Sigmoid",), None),
        ((4, 3, 16, 16), ("Softmax",), None),
        ((4, 21, 16, 16), ("Conv",), None),
        ((4, 3, 4, 4), ("Conv",), None),
        ((4, 84, 2100), ("Concat",), (1, 84, 2100)),
    ],
)
def test_tables_maps_and_heads_are_no_signals(shape, ends, declared):
    image = {"x": np.zeros((4, 3, 16, 16), np.float32)}
    value = RNG.normal(size=shape).astype(np.float32)
    assert recognized(value, image, ends=ends, shape=declared) is None


def test_a_map_of_a_gray_image_is_no_signal():
    gray = {"x": np.zeros((4, 1, 16, 16), np.float32)}
    assert recognized(RNG.random((4, 1, 16, 16), np.float32), gray, ends=("Sigmoid",)) is None
    assert recognized(RNG.random((4, 1, 16, 16), np.float32), gray, ends=("Conv",)) is not None


def test_the_users_word_needs_the_shape_of_a_signal():
    assert signal.comparison({"y": clips()}, (), facts(), OPTIONS) == SOUND
    with pytest.raises(DataError, match=r"ONX209.*shape of a signal"):
        signal.comparison({"y": np.zeros(3, np.float32)}, (), facts(), OPTIONS)
