"""Which layers can be made cheaper, and how: a table of what each technique alone does to the outputs."""

from pathlib import Path

from onnxopt import model_file
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.model_file import atomic_write_text, signature_of
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.pipeline import Context, Progress
from onnxopt.report.sensitivity_plot import sensitivity_page
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.search.mix.layer_table import Harm, layer_table
from onnxopt.target import target_of

WHAT = "sensitivity of layers"
JUDGED = "Judged by number, whatever the task, because layers are ranked by how far each alone moves the outputs."
ABOUT = (
    "Each figure is the mean squared difference of the outputs over their variance when done to the layer alone;",
    "0.01 hardly moves a prediction, 1 leaves nothing. Removed channels are made up for by the layers that read them.",
)


def sensitivity_document(
    model: Path,
    data: object,
    *,
    limit: int | None = None,
    target: str = "auto",
    seed: int = 0,
    read: ReadOptions | None = None,
    progress: Progress = lambda what, done, total: None,
    plot: Path | None = None,
    overwrite: bool = False,
) -> Document:
    """Measure every technique on every layer alone, and draw it in the HTML file `plot` where one is named.

    Raises:
        OnnxoptError: of every family.
    """
    if plot is not None:
        refuse_output_file(plot, overwrite=overwrite, source=model, read=[data], kind=".html")
    loaded = model_file.load(model)
    samples = open_samples(data, signature_of(loaded), options=read, limit=limit)
    context = Context(target_of(target), samples, seed=seed)
    found = layer_table(loaded, context, lambda done, total: progress(WHAT, done, total), cache_folder())
    if plot is not None:
        atomic_write_text(plot, sensitivity_page(found, f"{model.name}: sensitivity of layers"), overwrite=overwrite)
    techniques = list(dict.fromkeys(harm.technique for harm in found))
    layers = list(dict.fromkeys(harm.layer for harm in found))
    cells = {(harm.layer, harm.technique): _cell(harm) for harm in found}
    columns = (Column("layer"), *(Column(technique, number=True) for technique in techniques))
    rows = tuple((layer, *(cells.get((layer, t), "-") for t in techniques)) for layer in layers)
    lefts = {harm.why: harm.layer for harm in found if harm.why}
    notes = tuple(f"{layer} and the like: {why}." for why, layer in lefts.items())
    records = [{"layer": h.layer, "technique": h.technique, "error": h.error, "why": h.why or None} for h in found]
    return Document(
        (Text((JUDGED,)), Table(columns, rows), Text((*ABOUT, *notes))), {"model": str(model), "layers": records}
    )


def _cell(harm: Harm) -> str:
    return "-" if harm.error is None else f"{harm.error:.2g}"
