"""The tools of the server: the use cases with the few arguments that a client needs; results are JSON-ready."""

from pathlib import Path
from typing import Any

from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.tasks.served.root import Root

MOST_SECONDS = 24 * 3600.0


class ReadTools:
    """Tools that only read."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def inspect(self, model: str) -> dict[str, Any]:
        """Describe an ONNX model: inputs, outputs, size, layers, work, and the data that it expects.

        Args:
            model: ONNX file, relative to the root.
        """
        from onnxopt.tasks.inspect import inspect

        return dict(inspect(self._model(model)).data)

    def check(self, model: str, strict: bool = False) -> dict[str, Any]:
        """Check that an ONNX model is valid and safe; findings have stable codes and say what to do.

        Args:
            model: ONNX file, relative to the root.
            strict: whether warnings count as failures.
        """
        from onnxopt.tasks.check import check

        return dict(check(self._root.path(model), strict=strict).document.data)

    def compare(
        self,
        model: str,
        other: str,
        data: str,
        *,
        max_drop: str = "1pp",
        limit: int | None = None,
        seconds: float = 3.0,
    ) -> dict[str, Any]:
        """Measure accuracy, agreement, latency and size of two models on the same samples, side by side.

        Args:
            model: the original, an ONNX file relative to the root.
            other: the model made from it.
            data: samples relative to the root (.npz, .csv, .jsonl, a folder), or `random`, which says nothing of accuracy.
            max_drop: accuracy budget: `1pp` is one point, `1%` is relative.
            limit: number of samples to use at most.
            seconds: seconds of timed runs.
        """  # noqa: E501 (one line per argument)
        from onnxopt.tasks.compare import compare

        pair = self._model(model), self._model(other)
        found = compare(*pair, self._root.samples(data), max_drop=max_drop, limit=limit, seconds=seconds)
        return {**found.document.data, "within_budget": found.within}

    def _model(self, name: str) -> Path:
        """Return a model that the runtime loads without crashing this process."""
        path = self._root.path(name)
        survive_loading(path)
        return path


class WriteTools(ReadTools):
    """Tools that write new files below the root; they replace none."""

    def optimize(
        self,
        model: str,
        data: str,
        out: str,
        *,
        max_drop: str = "1pp",
        time_limit: float = 600.0,
        limit: int | None = None,
    ) -> dict[str, Any]:
        """Find the best model within an accuracy budget; writes a run folder with best.onnx, run.json and a report.

        Args:
            model: ONNX file, relative to the root.
            data: samples relative to the root, with labels where there are some.
            out: new folder for the result, relative to the root.
            max_drop: accuracy budget: `1pp` is one point, `1%` is relative.
            time_limit: seconds for the search.
            limit: number of samples to use at most.
        """
        from onnxopt.document.markdown import to_markdown
        from onnxopt.options.search import SearchOptions
        from onnxopt.report.summary import summary
        from onnxopt.run.optimize import optimize

        options = SearchOptions(max_drop=max_drop, time_limit_s=min(time_limit, MOST_SECONDS), limit=limit)
        run = optimize(self._model(model), self._root.samples(data), out=self._root.path(out), options=options)
        return {
            "won": run.won,
            "status": run.record.status,
            "reason": run.record.reason,
            "best": str(run.folder / "best.onnx"),
            "record": str(run.folder / "run.json"),
            "summary": to_markdown(summary(run.record, run.folder)),
        }

    def repair(self, model: str, out: str, max_change: float = 0.05, seconds: float = 2.0) -> dict[str, Any]:
        """Make a quantized ONNX file fast or small without data; each change is proved and measured, or undone.

        Args:
            model: ONNX file, relative to the root.
            out: new ONNX file, relative to the root; it is not written where no repair helps.
            max_change: the largest change of outputs, by repairs that are not exact (relative); 0 for none of these.
            seconds: seconds of timed runs per repair.
        """
        from onnxopt.tasks.repair import repair

        done = repair(self._model(model), out=self._root.path(out), max_change=max_change, seconds=seconds)
        return dict(done.document.data)
