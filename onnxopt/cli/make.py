"""Commands that make one model from another without a search: quantize, apply."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxopt.cli.options import (
    DRY_RUN,
    LIMIT,
    MAYBE_DATA,
    MODEL,
    OUT_MODEL,
    OVERWRITE,
    SEED,
    TARGET,
    Shown,
)
from onnxopt.cli.output import emit, quieten
from onnxopt.errors import ExitCode, UsageError
from onnxopt.options.choices import Effort, Mode, Placement
from onnxopt.options.reading import ReadOptions
from onnxopt.options.tasks import TaskOptions


def apply(
    model: MODEL,
    *,
    passes: Annotated[
        str,
        typer.Option("--passes", help='Pipeline, such as "simplify,quantize-static{method=mse}".', show_default=False),
    ],
    out: OUT_MODEL,
    data: MAYBE_DATA = None,
    calibration_part: Annotated[
        bool, typer.Option("--calibration-part", help="Calibrate on the same part of the data as `optimize`.")
    ] = False,
    limit: LIMIT = None,
    target: TARGET = "auto",
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    dry_run: DRY_RUN = False,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Apply a pipeline of passes and save the result."""
    quieten(shown)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.apply import apply as apply_passes

    with ProgressBar(shown) as bar:
        made = apply_passes(
            model,
            passes,
            data=data,
            calibration_part=calibration_part,
            limit=limit,
            target=target,
            seed=seed,
            read=read,
            out=out,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=bar.show,
        )
    emit_made(model, made, shown)
    return ExitCode.OK


def quantize(
    model: MODEL,
    *,
    out: OUT_MODEL,
    data: MAYBE_DATA = None,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            help="auto: the fastest measured form with small error; dynamic: no data needed; cache: only the keys and "
            "values that a decoder keeps.",
        ),
    ] = "static",
    effort: Annotated[
        Effort | None, typer.Option("--effort", help="With --mode auto: high tries more forms. [default: normal]")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="SECONDS",
            help="With --mode auto: when to stop making forms. [default: 600; none with --effort high]",
        ),
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", help="With --mode cache: 8 or 4 bits for keys and values. [default: 8]")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Static: calibration method: minmax, entropy, ...")
    ] = None,
    form: Annotated[str | None, typer.Option("--form", help="Static: qdq or qoperator.")] = None,
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="One scale per weight, not per channel.")] = False,
    activation_type: Annotated[
        str | None, typer.Option("--activation-type", help="int8 or uint8. Default: by target.")
    ] = None,
    weight_type: Annotated[str | None, typer.Option("--weight-type", help="int8 or uint8. Default: by target.")] = None,
    op_types: Annotated[
        str | None, typer.Option("--op-types", help="Operator types to quantize, comma-separated.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Node to keep in float; repeat it.")] = None,
    placement: Annotated[
        Placement, typer.Option("--placement", help="Static: all layers, or only those measured faster in INT8.")
    ] = "all",
    overrides: Annotated[
        Path | None, typer.Option("--overrides", help="File of `diagnose --out`: further nodes to keep in float.")
    ] = None,
    no_simplify: Annotated[
        bool, typer.Option("--no-simplify", help="Quantize the graph without simplifying it first.")
    ] = False,
    target: TARGET = "auto",
    seed: SEED = 0,
    overwrite: OVERWRITE = False,
    dry_run: DRY_RUN = False,
    tasks: TaskOptions,
    read: ReadOptions,
    shown: Shown,
) -> int:
    """Quantize a model to INT8. The output lists quantized layers and skipped layers with reasons.

    With --mode dynamic, MODEL may be a folder of several models, such as encoder and decoder.
    """
    quieten(shown)
    static: dict[str, object] = {"--method": method, "--form": form, "--activation-type": activation_type}
    static["--placement"] = None if placement == "all" else placement
    if mode != "static":
        _refuse(static, "this option is for static quantization")
    if mode in ("auto", "cache"):
        given: dict[str, object] = {
            "--weight-type": weight_type,
            "--op-types": op_types,
            "--exclude": exclude,
            "--overrides": overrides,
        }
        given |= {"--per-tensor": per_tensor or None, "--no-simplify": no_simplify or None}
        _refuse(given, f"--mode {mode} decides this itself" if mode == "auto" else "this option is for layers")
    if mode != "auto":
        _refuse({"--effort": effort, "--time-limit": time_limit}, "this option is for --mode auto")
    if mode != "cache":
        _refuse({"--bits": bits}, "this option is for --mode cache")
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.overrides import read_overrides
    from onnxopt.tasks.quantize import quantize as quantize_model

    kept = (*(exclude or ()), *(read_overrides(overrides) if overrides else ()))
    options: dict[str, Any] = {
        "method": method,
        "form": form,
        "activation_type": activation_type,
        "weight_type": weight_type,
        "placement": None if placement == "all" else placement,
        "op_types": tuple(op_types.split(",")) if op_types else None,
        "exclude": tuple(dict.fromkeys(kept)) or None,
        "per_channel": False if per_tensor else None,
        "effort": effort,
        "time_limit": time_limit,
        "bits": bits,
    }
    if model.is_dir():
        whole = {"--data": data, "--exclude": exclude, "--overrides": overrides, "--overwrite": overwrite or None}
        _refuse(whole, "this is not for folders of models")
        return _quantize_folder(
            model,
            None if dry_run else out,
            mode=mode,
            simplify=not no_simplify,
            target=target,
            seed=seed,
            options=options,
            shown=shown,
        )
    with ProgressBar(shown) as bar:
        made = quantize_model(
            model,
            data,
            out=out,
            mode=mode,
            tasks=tasks,
            simplify=not no_simplify,
            target=target,
            seed=seed,
            read=read,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=bar.show,
            **{key: value for key, value in options.items() if value is not None},
        )
    emit_made(model, made, shown)
    return ExitCode.OK


def _quantize_folder(
    folder: Path,
    out: Path | None,
    *,
    mode: Mode,
    simplify: bool,
    target: str,
    seed: int,
    options: Mapping[str, Any],
    shown: Shown,
) -> int:
    if mode != "dynamic":
        hint = "Quantize its models one by one, or add --mode dynamic."
        raise UsageError("ONX112", "a folder of models is quantized dynamically only", where="--mode", hint=hint)
    from onnxopt.cli.progress import ProgressBar
    from onnxopt.tasks.variants.folder import quantize_folder

    chosen = {key: value for key, value in options.items() if value is not None}
    with ProgressBar(shown) as bar:
        made = quantize_folder(
            folder, out=out, simplify=simplify, target=target, seed=seed, progress=bar.show, **chosen
        )
    emit(made.document, shown)
    return ExitCode.OK


def _refuse(given: Mapping[str, object], why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError("ONX112", why, where=name, hint="Leave it out.")


def emit_made(model: Path, made: Any, shown: Shown) -> None:
    """Print the result of passes on `model`."""
    from onnxopt.tasks.apply import made_document

    emit(made_document(model, made), shown)
