"""Published files, loaded and run one by one beside the float32 file, for `onnxopt audit`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnxopt import model_file
from onnxopt.document import units
from onnxopt.document.blocks import Displayed, Document, Text
from onnxopt.errors import DataError, FileError, ModelError, NativeError, OnnxoptError, UsageError
from onnxopt.graph.lint import is_quantized
from onnxopt.measure.made_up import made_up_samples
from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.options.reading import ReadOptions
from onnxopt.options.runtime import Runtime
from onnxopt.options.tasks import TaskOptions
from onnxopt.pipeline import StageProgress
from onnxopt.run.job import budget_of
from onnxopt.tasks.variants.layout import Family, baselines_of, families_of
from onnxopt.tasks.variants.published import with_tokenizer
from onnxopt.tasks.variants.reference import Opened, Terms, open_file, reference
from onnxopt.tasks.variants.shown import file_data, files_table, name_in, verdict_sentences
from onnxopt.tasks.variants.together import Reading, opened_in, readings_of
from onnxopt.tasks.variants.verdict import JudgedFile, Standing

QUANTIZED = "quantized"
"""Type of a file whose name states none, and whose weights are not those of a float32 file."""


@dataclass(frozen=True)
class Audit(Displayed):
    """The files of a folder, each judged beside the float32 file that it was made from.

    Attributes:
        folder: the folder that was named.
        files: the baselines and the files made from them.
        passed: whether no file is broken.
        document: one row per file, with the reasons.
    """

    folder: Path
    files: tuple[JudgedFile, ...]
    passed: bool
    document: Document = field(repr=False)


def audit(
    folder: str | Path,
    data: object = None,
    *,
    baseline: str | Path | None = None,
    max_drop: str | float | None = None,
    tasks: TaskOptions | None = None,
    runtime: Runtime | None = None,
    read: ReadOptions | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: StageProgress | None = None,
) -> Audit:
    """Load and run every model file in a published layout, and compare it with the float32 file.

    Args:
        folder: the folder of the model, in the layout of transformers.js, sentence-transformers or onnxruntime-genai.
        data: samples to run the files on; None for made-up inputs.
        baseline: the float32 file, where it is not in the folder.
        max_drop: largest drop of fidelity of a good file: `1pp` (points) or `1%`; None for 1pp.
        tasks: the tasks as which outputs are judged; None decides by evidence.
        runtime: configuration of ONNX Runtime.
        read: options of the data readers; the vocabulary is the folder's tokenizer.json unless it names one.
        limit: largest number of samples.
        seed: the seed of intervals.
        progress: called with the step, the finished and the total amount.

    Raises:
        UsageError: ONX101 a value is out of range.
        DataError: ONX201 to ONX209 the samples do not fit the only model in the folder.
        FileError: ONX501 there is no such folder or no model in it, ONX505 it cannot be read.
    """
    folder, terms = Path(folder), Terms(data, max_drop, tasks, runtime, with_tokenizer(folder, read), limit, seed)
    budget_of(max_drop, None)
    families = [_with_baseline(_by_weights(family), baseline) for family in families_of(folder)]
    total = sum(len(family.variants) + 1 for family in families)
    files, notes = list[JudgedFile](), list[str]()
    models = baselines_of(families)
    readings = readings_of(folder, models, terms) if total > len(models) else ()
    for family in families:
        opened = _opened(family, terms, readings, several=len(families) > 1)
        if opened.reference is not None and family.variants:
            notes.append(f"{name_in(opened.file.path, folder)}: {opened.reference.words}")
        for one in _judged(family, opened, terms):
            files.append(one)
            if progress is not None:
                progress("files", len(files), total)
    broken = [one for one in files if one.broken]
    end = f"{units.many(len(files), 'file')}, {len(broken)} broken."
    lines = (*notes, *verdict_sentences(files, folder), end)
    content = {"folder": str(folder), "passed": not broken, "files": [file_data(one) for one in files]}
    return Audit(folder, tuple(files), not broken, Document((files_table(files, folder), Text(lines)), content))


@dataclass(frozen=True)
class _Opened:
    """A baseline: its row, and the reference for other files where it runs."""

    file: JudgedFile
    reference: Opened | None


def _by_weights(family: Family) -> Family:
    """Return the family without its baseline where that has no float32 weights, whatever its name says."""
    own = family.baseline
    if own is None or not _is_quantized(own):
        return family
    return Family(None, ((own, QUANTIZED), *family.variants))


def _is_quantized(path: Path) -> bool:
    """Return whether a model is quantized; one that cannot be read gets its own verdict."""
    try:
        return any(map(is_quantized, model_file.load(path).graph.all_nodes()))
    except OnnxoptError:
        return False


def _with_baseline(family: Family, baseline: str | Path | None) -> Family:
    if baseline is None or family.baseline is not None:
        return family
    path = Path(baseline)
    if not path.is_file():
        raise FileError("ONX501", "the model file does not exist", where=str(path), hint="Check --baseline.")
    return replace(family, baseline=path)


def _judged(family: Family, opened: _Opened, terms: Terms) -> Iterator[JudgedFile]:
    if family.baseline is not None:
        yield opened.file
    for path, label in family.variants:
        if opened.reference is not None:
            yield opened.reference.judged(path, label)
        else:
            yield _alone(path, label, terms)


def _opened(family: Family, terms: Terms, readings: Sequence[Reading], *, several: bool) -> _Opened:
    """Run the baseline on the samples, or on generated inputs if the samples belong to another model of the folder."""
    path = family.baseline
    if path is None:
        return _Opened(JudgedFile(Path(), "", False, Standing.UNSURE, "", 0), None)
    row = JudgedFile(path, "", False, Standing.BROKEN, "", path.stat().st_size)
    try:
        survive_loading(path)
        opened = _fitting(path, terms, readings, several)
    except ModelError as error:
        if error.code == "ONX313":
            return _Opened(replace(row, loads=True, standing=Standing.UNSURE, reason=error.why), None)
        return _Opened(replace(row, reason=f"does not load: {error.why or error.what}"), None)
    except NativeError as error:
        return _Opened(replace(row, loads=True, reason=f"does not run: {error.why}"), None)
    except DataError as error:
        if terms.data is not None:
            raise
        return _Opened(replace(row, loads=True, standing=Standing.UNSURE, reason=error.what), None)
    except UsageError as error:
        if error.code != "ONX114":
            raise
        reason = f"it runs on no made-up input, give samples with --data ({error.why})"
        return _Opened(replace(row, loads=True, standing=Standing.UNSURE, reason=reason), None)
    return _Opened(replace(row, loads=True, standing=Standing.BASELINE, size_bytes=opened.size_bytes), opened)


def _fitting(path: Path, terms: Terms, readings: Sequence[Reading], several: bool) -> Opened:
    try:
        return opened_in(path, terms, readings)
    except (DataError, NativeError):
        if terms.data is None or not several:
            raise
        return reference(path, replace(terms, data=None))


def _alone(path: Path, label: str, terms: Terms) -> JudgedFile:
    """Return the verdict on a file without another one to compare it with."""
    size = path.stat().st_size if path.is_file() else 0
    found = JudgedFile(path, label, False, Standing.BROKEN, "", size)
    try:
        runtime = terms.runtime or Runtime()
        open_file(path, runtime)
        found = replace(found, loads=True, size_bytes=model_file.size_of(path))
        made_up_samples(model_file.load(path), runtime, 1)
    except (ModelError, FileError) as error:
        return replace(found, reason=f"does not load: {error.why or error.what}")
    except UsageError:
        return replace(
            found, standing=Standing.UNSURE, reason="it runs on no made-up input, and nothing to compare it with"
        )
    return replace(
        found, standing=Standing.UNSURE, reason="there is no float32 file to compare it with: name it with --baseline"
    )
