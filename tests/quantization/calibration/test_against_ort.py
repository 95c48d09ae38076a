"""Our calibrators against ONNX Runtime's own, on the same values and on the same histograms."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import CalibrationDataReader, HistogramCollector, MinMaxCalibrater

from onnxopt import model_file
from onnxopt.quantization.calibration import calibrators, ranges
from onnxopt.quantization.calibration import divergence_ort as divergence_stock
from onnxopt.quantization.calibration.histogram import BINS, Histogram
from tests import builders, numerics


class Reader(CalibrationDataReader):
    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self.left: Iterator[dict[str, np.ndarray]] = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


@pytest.mark.parametrize("moving_average", [False, True])
@pytest.mark.parametrize("name", ["residual_cnn", "depthwise_separable", "transformer_17"])
def test_extremes_are_those_of_the_stock_calibrator(name: str, moving_average: bool, tmp_path: Path) -> None:
    model = builders.BUILDERS[name]()
    samples = builders.samples_of(model).with_batch_size(1)
    path = tmp_path / "model.onnx"
    path.write_bytes(model_file.to_bytes(model))
    stock = MinMaxCalibrater(
        str(path), augmented_model_path=str(tmp_path / "augmented.onnx"), moving_average=moving_average
    )
    stock.augment_graph()
    stock.create_inference_session()
    stock.collect_data(Reader([dict(f) for f in samples]))
    expected = {k: np.ravel(v.range_value) for k, v in stock.compute_data().items()}
    found = ranges.extremes(model, list(expected), samples)
    assert len(found) >= 5
    for tensor, seen in found.items():
        low, high = (float(v) for v in expected[tensor])
        if moving_average:
            np.testing.assert_allclose((seen.mean_low, seen.mean_high), (low, high), rtol=1e-6, atol=1e-7)
        else:
            # The stock calibrator runs the graph unfused, which adds in another order.
            limit = numerics.EXACT_RELATIVE * max(-low, high)
            np.testing.assert_allclose((seen.low, seen.high), (low, high), rtol=0, atol=limit, err_msg=tensor)


def collector(method: str, bins: int, percentile: float = 99.9) -> Any:
    return HistogramCollector(method, False, bins, divergence_stock.QUANTIZED_BINS, percentile, "same")


COUNT = 59_989
"""A prime: where a share falls between two bins exactly, rounding decides which one it is."""


def values(shape: str) -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    drawn = {
        "normal": rng.standard_normal(COUNT),
        "laplace": rng.laplace(size=COUNT) + 1,
        "heavy": rng.standard_t(4, size=COUNT),
        "uniform": rng.uniform(-2, 1, COUNT),
        "relu": np.maximum(rng.standard_normal(COUNT), 0),
    }[shape]
    return drawn.astype(np.float32)


SHAPES = ["normal", "laplace", "heavy", "uniform", "relu"]


@pytest.mark.parametrize("share", [99.0, 99.9, 99.99])
@pytest.mark.parametrize("shape", SHAPES)
def test_percentile_is_within_a_bin_of_the_stock_one(shape: str, share: float) -> None:
    array = values(shape)
    low, high = float(array.min()), float(array.max())
    counts, edges = np.histogram(array, BINS, (low, high))
    stock = collector("percentile", BINS, share)
    stock.histogram_dict = {"x": (counts, edges, np.float32(low), np.float32(high))}
    expected = stock.compute_percentile()["x"][:2]
    found = calibrators.percentile(Histogram(low, high, low, high, counts), share)
    bin_width = (high - low) / BINS
    np.testing.assert_allclose((found.low, found.high), np.array(expected, float), atol=bin_width * (1 + 1e-6))


@pytest.mark.parametrize("shape", SHAPES)
def test_stock_entropy_chooses_the_same_bins(shape: str) -> None:
    array = values(shape)
    top = float(np.abs(array).max())
    counts, edges = np.histogram(array, BINS, (-top, top))
    stock = collector("entropy", BINS)
    histogram = (counts, edges, np.float64(-np.inf), np.float64(np.inf))
    expected = [int(np.argmin(np.abs(edges - t))) for t in stock.get_entropy_threshold(histogram, 128)]
    found = divergence_stock.threshold(counts)
    assert max(abs(f - e) for f, e in zip(found, expected, strict=True)) <= 1


def test_divergences_clip_outliers_and_keep_what_is_common() -> None:
    array = np.append(values("normal"), np.float32(200))
    low, high = float(array.min()), float(array.max())
    histogram = Histogram(low, high, low, high, np.histogram(array, BINS, (low, high))[0])
    for name in ("entropy", "symmetric-entropy", "jensen-shannon", "entropy-stock"):
        assert 3 < calibrators.METHODS[name](histogram).high < 100, name
