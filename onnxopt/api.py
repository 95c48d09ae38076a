"""The public calls that are more than one call of the package: on a path, an `onnx.ModelProto` or an `onnx_ir.Model`.

None of them changes the model it is given. What is found comes back as an object with the figures, which a notebook
shows as a table; files are written only where `out` names one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onnxopt.catalog import make_pass
from onnxopt.document.blocks import Document
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.latency import Latency
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import Given
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Progress
from onnxopt.samples import ReadOptions
from onnxopt.tasks.apply import Made, apply_passes
from onnxopt.tasks.benchmark import bench, bench_document
from onnxopt.tasks.evaluate import score

Structure = Literal["channels", "heads", "groups", "blocks", "weights"]


def prune(
    model: Given,
    out: str | Path | None = None,
    *,
    what: Structure = "channels",
    data: object = None,
    target: str = "auto",
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: object,
) -> Made:
    """Remove channels, attention heads, groups of convolutions, residual blocks, or single weights.

    The graph is simplified first, so that batch norms are part of the layers whose channels go.

    Args:
        model: stays as it is.
        out: file to write; None for none.
        what: the pass is `prune-` and this.
        data: samples, unlabeled will do: they rank what is removed, and what is left makes up for it.
        target: processor the result is for, which decides on the width of blocks.
        seed: of everything random.
        read: how `data` is read.
        overwrite: whether `out` may exist.
        progress: told how far it is.
        options: of the pass, such as `ratio=0.5` or `macs=0.5`; see docs/pruning.md.

    Raises:
        OnnxoptError: of every family; nothing is written then.
    """
    passes = (Simplify(fuse=False), make_pass(f"prune-{what}", options))
    return apply_passes(
        model, passes, data=data, target=target, seed=seed, read=read, out=out, overwrite=overwrite, progress=progress
    )


def factorize(
    model: Given,
    out: str | Path | None = None,
    *,
    data: object = None,
    target: str = "auto",
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: object,
) -> Made:
    """Replace layers by products of smaller ones; arguments as those of `prune`, options in docs/low-rank.md."""
    passes = (Simplify(fuse=False), make_pass("factorize", options))
    return apply_passes(
        model, passes, data=data, target=target, seed=seed, read=read, out=out, overwrite=overwrite, progress=progress
    )


def distill(
    teacher: Given,
    student: Given,
    data: object,
    out: str | Path | None = None,
    *,
    labels: object = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: object,
) -> Made:
    """Let `student` learn from `teacher`, which has the same inputs and outputs; needs torch.

    Args:
        teacher: knows.
        student: learns; stays as it is, what it became is returned.
        data: samples; labels are used only where `alpha` is below 1.
        out: file to write; None for none.
        labels: one per sample, if they are not in the data.
        seed: of everything random.
        read: how `data` is read.
        overwrite: whether `out` may exist.
        progress: told how far it is.
        options: of the pass `distill`, such as `epochs=5` or `losses=("response", "feature")`; see docs/recovery.md.

    Raises:
        OnnxoptError: of every family; nothing is written then.
    """
    passes = (make_pass("distill", options),)
    return apply_passes(
        student,
        passes,
        data=data,
        labels=labels,
        teacher=teacher,
        seed=seed,
        read=read,
        out=out,
        overwrite=overwrite,
        progress=progress,
    )


def finetune(
    model: Given,
    data: object,
    out: str | Path | None = None,
    *,
    labels: object = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: object,
) -> Made:
    """Train a model on labels; needs torch. Arguments as those of `distill`, options in docs/recovery.md."""
    passes = (make_pass("finetune", options),)
    return apply_passes(
        model, passes, data=data, labels=labels, seed=seed, read=read, out=out, overwrite=overwrite, progress=progress
    )


def evaluate(
    model: Given,
    data: object,
    *,
    labels: object = None,
    metric: str | Metric | None = None,
    output: str | None = None,
    threshold: float = 0.5,
    runtime: Runtime | None = None,
    limit: int | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    simulate: str | None = None,
) -> Evaluation:
    """Measure the accuracy of a model on labelled samples.

    Args:
        model: stays as it is.
        data: labelled samples, see `onnxopt.open_samples`.
        labels: one per sample, instead of those in `data`.
        metric: name or `file.py:function`; None decides by the labels.
        output: the model output to score.
        threshold: above which a single score means "positive".
        runtime: how the model is run.
        limit: samples to use at most.
        read: how `data` is read.
        seed: of the interval.
        simulate: a target, such as `x86-avx2` or `arm64`, as which an INT8 model is computed; None for this machine.

    Raises:
        DataError: ONX208 there are no labels; and every other family.
    """
    scored = score(
        model,
        data,
        labels=labels,
        metric=metric,
        output=output,
        threshold=threshold,
        runtime=runtime or Runtime(),
        limit=limit,
        read=read,
        seed=seed,
        simulate=simulate,
    )
    return scored.there[0].evaluation if scored.there else scored.evaluation


@dataclass(frozen=True)
class Benchmark:
    """Latency of models side by side.

    Attributes:
        latency: by batch size as measured, then by model.
        document: the same as a table.
    """

    latency: Mapping[int, Mapping[str, Latency]]
    document: Document

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return self.document._repr_html_()


def benchmark(
    models: Given | Sequence[Given] | Mapping[str, Given],
    data: object = None,
    *,
    runtime: Runtime | None = None,
    batch_sizes: Sequence[int] = (1,),
    seconds: float = 5.0,
    memory: bool = False,
    read: ReadOptions | None = None,
    seed: int = 0,
) -> Benchmark:
    """Time models by turns in this process; the first is what speed-ups are measured against.

    Args:
        models: one, several, or several by name.
        data: samples to run on; None for made-up inputs.
        runtime: how to run.
        batch_sizes: a model with a fixed batch size runs at its own.
        seconds: of timed runs per batch size.
        memory: measure peak memory too.
        read: how `data` is read.
        seed: of made-up inputs and of the order of runs.

    Raises:
        ModelError: ONX308 the models do not take the same inputs; and every other family.
    """
    found = bench(
        models if isinstance(models, Sequence | Mapping) and not isinstance(models, str) else [models],
        data,
        runtime=runtime,
        batch_sizes=batch_sizes,
        seconds=seconds,
        memory=memory,
        read=read,
        seed=seed,
    )
    return Benchmark(found, bench_document(found, data))
