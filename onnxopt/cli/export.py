"""Command that converts models of other frameworks to ONNX: export."""

from pathlib import Path
from typing import Annotated

import typer

from onnxopt.cli.options import OUT_MODEL, OVERWRITE, SEED, TARGET, Shown
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="file.py:function that returns (model, inputs); .keras, .h5, .tflite, .pkl, .joblib, LightGBM .txt; "
            "SavedModel folder; .onnx for --out NAME.ort. Python files and pickles are executed: trust them first.",
            show_default=False,
        ),
    ],
    *,
    out: OUT_MODEL,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help=".npz file with one batch of example inputs, by name or in order.")
    ] = None,
    framework: Annotated[
        str,
        typer.Option(
            "--framework", help="auto, torch, keras, saved-model, tflite, sklearn, xgboost, lightgbm, jax or paddle."
        ),
    ] = "auto",
    exporter: Annotated[str, typer.Option("--exporter", help="For torch: dynamo or torchscript.")] = "auto",
    opset: Annotated[int | None, typer.Option("--opset", help="Version of the standard operator set.")] = None,
    fixed_batch: Annotated[
        bool, typer.Option("--fixed-batch", help="Keep the batch size of the example. Default: a dynamic first axis.")
    ] = False,
    no_simplify: Annotated[bool, typer.Option("--no-simplify", help="Keep the exporter's graph unchanged.")] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Largest accepted difference, relative to the largest output.")
    ] = 1e-3,
    target: TARGET = "auto",
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    shown: Shown,
) -> int:
    """Convert another framework's model to ONNX and verify it."""
    quieten(shown)
    from onnxopt.document.blocks import Document, Text
    from onnxopt.exporters.export import export as export_model
    from onnxopt.exporters.export import exported_document, to_ort
    from onnxopt.exporters.sources import read_inputs

    if source.endswith(".onnx"):
        files = to_ort(source, out, target=target, overwrite=overwrite)
        lines = (f"Written: {', '.join(map(str, files))}.",)
        emit(Document((Text(lines),), {"files": [str(file) for file in files]}), shown)
        return ExitCode.OK
    made = export_model(
        source,
        out=out,
        inputs=None if inputs is None else read_inputs(inputs),
        framework=framework,
        exporter=exporter,
        opset=opset,
        fixed_batch=fixed_batch,
        simplify=not no_simplify,
        tolerance=tolerance,
        target=target,
        seed=seed,
        overwrite=overwrite,
    )
    emit(exported_document(made), shown)
    return ExitCode.OK
