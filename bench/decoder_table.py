"""A trained decoder in float, INT8, 8 and 4 bits, mixed as others mix, and with bits chosen per matrix.

    python bench/trained_decoder.py FOLDER
    python bench/decoder_table.py FOLDER [--seconds 60] [--max-drop 1pp]

Perplexity and divergence on the test sentences, speed, size and private memory of every form, beside float and beside
the chosen one; and of the cache in 8 and 4 bits. `optimize FOLDER` chooses on other sentences. Saves the table as JSON
under `bench/results/`.
"""

import argparse
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnxopt
from onnxopt.measure.runtime.environment import environment
from onnxopt.samples import ReadOptions

RESULTS = Path(__file__).parent / "results"
UNIFORM: Mapping[str, str] = MappingProxyType(
    {
        "dynamic INT8": "simplify,quantize-dynamic",
        "8 bits": "simplify,quantize-weights{bits=8,method=hqq}",
        "4 bits": "simplify,quantize-weights{bits=4,method=hqq}",
    }
)
MIXED, CHOSEN = "4 and 8 bits by place", "chosen per matrix"
_LAYER = re.compile(r"blocks\.(\d+)/(\w+)/")


def gets_8_bits(name: str, layers: int) -> bool:
    """Return whether a product gets 8 bits by its place, as in the mixes of llama.cpp and onnxruntime-genai.

    The last product does, and of the first and last eighth of the layers and of every third one between, what makes
    the values of attention, and the second product behind it.
    """
    found = _LAYER.search(name)
    if found is None:
        return True
    layer, eighth = int(found[1]), layers // 8
    sensitive = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return sensitive and found[2] in ("parts", "down")


def mixed_passes(path: Path) -> str:
    """Return the pipeline of 4 bits, with 8 bits where the place says so."""
    whole = onnxopt.apply(path, UNIFORM["4 bits"])
    names = [edit.target for edit in whole.optimized.steps[-1].edits]
    layers = 1 + max(int(found[1]) for name in names if (found := _LAYER.search(name)))
    kept = ",".join(name for name in names if gets_8_bits(name, layers))
    return f"simplify,quantize-weights{{bits=4,method=hqq,exclude=[{kept}]}},quantize-weights{{bits=8,method=hqq}}"


def chosen_form(folder: Path, place: Path, max_drop: str, latency_s: float) -> tuple[Path | None, dict[str, Any]]:
    """Return the decoder that the search for the folder writes, and its record."""
    alone = place / "alone"
    alone.mkdir()
    shutil.copy(folder / "decoder.onnx", alone)
    read = ReadOptions(vocab=folder / "vocab.json")
    found = onnxopt.optimize_parts(
        alone, folder / "sentences.jsonl", out=place / "run", read=read, max_drop=max_drop, latency_s=latency_s
    )
    record = json.loads((place / "run" / "parts.json").read_text())
    kept = {key: value for key, value in record.items() if key not in ("folder", "written")}
    return (None if found.out is None else found.out / "decoder.onnx"), kept


def caches(folder: Path, place: Path) -> dict[str, Path]:
    """Return the decoder of GroupQueryAttention with its cache in float32, 8 and 4 bits."""
    source, data, read = folder / "grouped.onnx", folder / "sentences.jsonl", ReadOptions(vocab=folder / "vocab.json")
    files = {"cache in float32": source}
    for bits in (8, 4):
        files[f"cache in {bits} bits"] = place / f"cache{bits}.onnx"
        onnxopt.quantize(source, data, mode="cache", bits=bits, out=place / f"cache{bits}.onnx", read=read)
    return files


def side_by_side(files: Mapping[str, Path], folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures of every file; the first one is the baseline."""
    found = onnxopt.generation(
        files,
        folder / "prompts.jsonl",
        read=ReadOptions(vocab=folder / "vocab.json"),
        prompt_tokens=given.prompt_tokens,
        new_tokens=given.new_tokens,
        seconds=given.seconds,
        limit=given.limit,
    )
    rows = found.document.data["models"]
    return [{**row, "size_bytes": files[row["model"]].stat().st_size} for row in rows]


def interval(found: Mapping[str, float] | None, digits: int) -> str:
    if found is None:
        return "-"
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def shown(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        texts, private = row["perplexity"], row["private_bytes"]
        cells = [
            row["model"],
            f"{row['size_bytes'] / 1e6:.1f} MB",
            f"{texts['value']:.2f}",
            interval(texts["ratio"], 4),
            interval(texts["divergence"], 4),
            f"{row['first_token_ms']:.2f} ms {interval(row['first_speedup'], 2)}",
            f"{row['tokens_per_s']:.0f} {interval(row['rate_speedup'], 2)}",
            "-" if private is None else f"{private / 1e6:.0f} MB",
        ]
        lines.append(" | ".join(cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="written by bench/trained_decoder.py")
    parser.add_argument("--max-drop", default="1pp")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--limit", type=int, help="largest number of test sentences")
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, for all forms together")
    parser.add_argument("--latency-seconds", type=float, default=5.0, help="of timing in the search, for each form")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-decoder-table.json")
    given = parser.parse_args(arguments)
    folder: Path = given.folder
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        passes = {**UNIFORM, MIXED: mixed_passes(folder / "decoder.onnx")}
        files = {"float": folder / "decoder.onnx"}
        for form, text in passes.items():
            files[form] = place / f"{form}.onnx"
            onnxopt.apply(folder / "decoder.onnx", text, out=files[form])
        made, search = chosen_form(folder, place, given.max_drop, given.latency_seconds)
        if made is not None:
            files[CHOSEN] = made
        rows = side_by_side(files, folder, given)
        kept = side_by_side(caches(folder, place), folder, given)
        beside = []
        if made is not None:
            first = {CHOSEN: made}
            beside = side_by_side({**first, **{k: v for k, v in files.items() if k not in first}}, folder, given)
    settings = folder / "settings.json"
    record = {
        "environment": environment(),
        "options": {key: value for key, value in vars(given).items() if key not in ("out", "folder")},
        "training": json.loads(settings.read_text()) if settings.is_file() else None,
        "passes": passes,
        "search": search,
        "models": rows,
        "caches": kept,
        "beside_chosen": beside,
    }
    given.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
    print(shown(rows))
    print("Beside the chosen one:", shown(beside), "Caches:", shown(kept), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
