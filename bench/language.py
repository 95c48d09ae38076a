"""A trained decoder in float, INT8, 8 and 4 bits and as a search chooses: perplexity, divergence, speed, memory.

    python bench/language.py FOLDER [--seconds 60] [--max-drop 1pp]

FOLDER is that of `bench/trained_decoder.py`. The search reads sentences of the training file that were left out, all
figures are of the test sentences. Saves the table as JSON under `bench/results/`.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from decoding import FORMS, RESULTS

import onnxopt
from onnxopt.measure.runtime.environment import environment
from onnxopt.options.reading import ReadOptions

CHOSEN = "optimize"


def searched(folder: Path, place: Path, max_drop: str, window: int, time_limit_s: float) -> tuple[Path, dict[str, Any]]:
    """Return the best file that a search finds with steps of its sentences, and what the search says of it."""
    read = ReadOptions(vocab=str(folder / "vocab.json"), window=window)
    steps = onnxopt.data(folder / "sentences.jsonl", folder / "decoder.onnx", out=place / "steps", read=read)
    run = onnxopt.optimize(
        folder / "decoder.onnx", steps.path, out=place / "run", max_drop=max_drop, time_limit_s=time_limit_s
    )
    winner = run.record.winner
    return run.best, {"status": run.record.status, "winner": winner, "samples": steps.count}


def _interval(found: Mapping[str, float] | None, form: str = "{value:.2f}x [{low:.2f}, {high:.2f}]") -> str:
    return "-" if found is None else form.format(**found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--max-drop", default="1pp")
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=600.0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-language.json")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        files = {"float": given.folder / "decoder.onnx"}
        for form, passes in FORMS.items():
            files[form] = place / f"{form}.onnx"
            onnxopt.apply(files["float"], passes, out=files[form])
        files[CHOSEN], search = searched(given.folder, place, given.max_drop, given.window, given.time_limit)
        found = onnxopt.generation(
            files,
            given.folder / "prompts.jsonl",
            prompt_tokens=given.prompt_tokens,
            new_tokens=given.new_tokens,
            seconds=given.seconds,
            limit=given.limit,
            read=ReadOptions(vocab=str(given.folder / "vocab.json")),
        )
        rows = [{**m, "size_bytes": files[m["model"]].stat().st_size} for m in found.document.data["models"]]
    options = {key: value for key, value in vars(given).items() if key not in ("out", "folder")}
    record = {"environment": environment(), "options": options, "passes": dict(FORMS), "search": search, "models": rows}
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    for row in rows:
        text = row["perplexity"]
        print(
            f"{row['model']:12} {row['size_bytes'] / 1e6:6.1f} MB  perplexity {text['value']:.2f}  "
            f"{_interval(text['ratio'], '{value:.4f} [{low:.4f}, {high:.4f}]')}  "
            f"KL {_interval(text['divergence'], '{value:.4f} [{low:.4f}, {high:.4f}]')}  "
            f"first {row['first_token_ms']:.2f} ms {_interval(row['first_speedup'])}  "
            f"{row['tokens_per_s']:.0f} tokens/s {_interval(row['rate_speedup'])}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
