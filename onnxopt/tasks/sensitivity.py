"""Output error of each technique applied to each layer alone."""

from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.usable import without_nan
from onnxopt.model_file import Given, as_graph, atomic_write_text, given, signature_of
from onnxopt.model_file.given import name_of_given
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.pipeline import Context, StageProgress
from onnxopt.report.sensitivity_plot import sensitivity_page
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.search.mix.layer_table import LayerSensitivity, layer_table
from onnxopt.target import target_of

WHAT = "sensitivity of layers"
JUDGED = "Judged by numeric difference for every task, because layers are ranked by their effect on the outputs."
ABOUT = (
    "Each figure is the mean squared error of the outputs over their variance, with the technique on this layer alone:",
    "0.01 rarely changes a prediction, 1 destroys the outputs. The readers of removed channels are refitted.",
)


@dataclass(frozen=True)
class Sensitivity(Displayed):
    """The error that each technique alone causes in each layer.

    Attributes:
        layers: one entry per layer and technique, layers in graph order.
        file: HTML page that was written; None for none.
        document: the same as a table.
    """

    layers: tuple[LayerSensitivity, ...]
    file: Path | None
    document: Document = field(repr=False)


def sensitivity(
    model: Given,
    data: object,
    *,
    limit: int | None = 256,
    target: str = "auto",
    seed: int = 0,
    read: ReadOptions | None = None,
    progress: StageProgress = lambda what, done, total: None,
    plot: str | Path | None = None,
    overwrite: bool = False,
) -> Sensitivity:
    """Measure the error of the outputs with INT8, a lower rank or pruning on one layer alone.

    Args:
        model: the float model.
        data: samples for calibration and evaluation; labels are not used.
        limit: largest number of samples.
        target: target processor.
        seed: random seed.
        read: options of the data readers.
        progress: called with the task, the finished and the total steps.
        plot: HTML file for a heatmap; None for none.
        overwrite: whether to replace an existing `plot`.

    Raises:
        OnnxoptError: ONX1xx usage, ONX2xx data, ONX3xx model, ONX4xx runtime, ONX5xx files.
    """
    found = given(model)
    path = None if isinstance(found, ir.Model) else found
    if plot is not None:
        refuse_output_file(Path(plot), overwrite=overwrite, source=path, read=[data], kind=".html")
    loaded = as_graph(found)
    samples = open_samples(data, signature_of(loaded), options=read, limit=limit)
    samples, _ = without_nan(Session(loaded, Runtime()), samples, None)
    context = Context(target_of(target), samples, seed=seed)
    layers = layer_table(loaded, context, lambda done, total: progress(WHAT, done, total), cache_folder())
    if plot is not None:
        title = f"{'the model' if path is None else path.name}: sensitivity of layers"
        atomic_write_text(Path(plot), sensitivity_page(layers, title), overwrite=overwrite)
    file = None if plot is None else Path(plot)
    return Sensitivity(layers, file, _document(name_of_given(model, "the model"), layers))


def _document(model: str, found: tuple[LayerSensitivity, ...]) -> Document:
    techniques = list(dict.fromkeys(one.technique for one in found))
    layers = list(dict.fromkeys(one.layer for one in found))
    cells = {(one.layer, one.technique): _cell(one) for one in found}
    columns = (Column("layer"), *(Column(technique, number=True) for technique in techniques))
    rows = tuple((layer, *(cells.get((layer, t), "-") for t in techniques)) for layer in layers)
    lefts = {one.why: one.layer for one in found if one.why}
    notes = tuple(f"Skipped, for example {layer}: {why}." for why, layer in lefts.items())
    records = [{"layer": h.layer, "technique": h.technique, "error": h.error, "why": h.why or None} for h in found]
    return Document(
        (Text((JUDGED,)), Table(columns, rows), Text((*ABOUT, *notes))), {"model": model, "layers": records}
    )


def _cell(one: LayerSensitivity) -> str:
    return "-" if one.error is None else f"{one.error:.2g}"
