"""A trained encoder-decoder in float, as `optimize FOLDER` ships it, in INT8 and in 4 bits.

    python bench/trained_seq2seq.py FOLDER
    python bench/seq2seq_table.py FOLDER [--merged] [--seconds 60] [--max-drop 0.05pp] [--run RUN]
    python bench/seq2seq_table.py FOLDER --variants --search-limit 40 --out bench/results/DATE-seq2seq-variants.json

With `--merged`, forms of the folder that has both decoders in one file, beside the folder with two. With `--variants`
only the files of a merged decoder for transformers.js, and how much probability per token each keeps. Size, time to the
first letter, letters per second, perplexity of the right answers, and how many of them each folder writes, on test
texts. Each row beside float and beside the folder that ships. Saves the table as JSON under `bench/results/`.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import onnxopt
from onnxopt.measure.generation.chain import Begin, Chain, TextStart, greedy
from onnxopt.measure.generation.perplexity import TextPerplexity, mean_of, perplexity_of, shares_of
from onnxopt.measure.generation.speed import Length, measure_speed
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime
from onnxopt.samples.tokenizer import Vocabulary, open_vocab
from onnxopt.tasks.parts.config import end_tokens, first_token
from onnxopt.tasks.parts.roles import parts_of

RESULTS = Path(__file__).parent / "results"
FLOAT, CHOSEN, INT8, FOUR = "float32", "chosen", "dynamic INT8", "4 bits"
MERGED = "float32, merged"
FOUR_BITS = "simplify,quantize-weights{bits=4,method=hqq}"


@dataclass(frozen=True)
class TestText:
    """A text with hidden vowels, its right answer as letters and as tokens, and the tokens that end an answer."""

    answer: str
    start: TextStart
    tokens: np.ndarray
    end: frozenset[int]


def chosen(source: Path, texts: Path, run: Path, given: argparse.Namespace) -> tuple[Path | None, dict[str, Any]]:
    """Return the folder that the search of a folder writes, or wrote before, and its record."""
    if given.no_search:
        return None, {}
    if not run.exists():
        options = {"max_drop": given.max_drop, "latency_s": given.latency_seconds, "limit": given.search_limit}
        onnxopt.optimize_parts(source, texts, out=run, **options)
    record, made = json.loads((run / "parts.json").read_text()), run / "model"
    kept = {key: value for key, value in record.items() if key not in ("folder", "written")}
    return (made if made.is_dir() else None), kept


def in_4_bits(source: Path, out: Path) -> Path:
    """Write a folder with the weights of each product in 4 bits; return it."""
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("*.onnx"))
    for path in sorted((source / "onnx").glob("*.onnx")):
        onnxopt.apply(path, FOUR_BITS, out=out / "onnx" / path.name)
    return out


def variants_of(source: Path, texts: Path, limit: int | None, out: Path) -> list[dict[str, Any]]:
    """Return the files of a merged decoder for transformers.js: sizes, and fidelity with its interval."""
    shutil.copytree(source, out)
    some = out.parent / "some.jsonl"
    some.write_text("".join(texts.read_text().splitlines(keepends=True)[:limit]))
    read = onnxopt.ReadOptions(vocab=str(out / "tokenizer.json"))
    made = onnxopt.variants(out / "onnx" / "decoder_model_merged.onnx", "transformers.js", some, read=read).made
    return [
        {
            "file": one.judged.path.name,
            "passes": one.passes,
            "size_bytes": one.judged.path.stat().st_size,
            "kept": None if one.judged.score is None else asdict(one.judged.score.interval),
        }
        for one in made
    ]


def files_of(folder: Path) -> list[Path]:
    return sorted((folder / "onnx").glob("*.onnx"))


def chain_of(folder: Path) -> Chain:
    return parts_of(folder, files_of(folder)).chain


def texts_of(folder: Path, limit: int | None) -> tuple[list[TestText], list[str]]:
    """Return test texts, and the letters by their numbers."""
    words = open_vocab(folder / "model" / "tokenizer.json")
    assert isinstance(words, Vocabulary)
    begin, end = first_token(folder / "model"), end_tokens(folder / "model")
    found = []
    for line in (folder / "test.jsonl").read_text().splitlines()[:limit]:
        row = json.loads(line)
        ids = np.array([words.encode(row["text"])])
        start = TextStart({"input_ids": ids, "attention_mask": np.ones_like(ids)}, np.array([begin]))
        found.append(TestText(row["answer"], start, np.array([begin, *words.encode(row["answer"]), *end]), end))
    return found, list(words.ids)


def vowel_words(answer: str) -> list[int]:
    """Return the places of words of which letters are hidden; the others are right by copying."""
    return [i for i, word in enumerate(answer.split(" ")) if set("aeiou") & set(word)]


def right_words(answer: str, written: str) -> tuple[int, int]:
    """Return how many words with hidden letters are right at their place, and how many there are."""
    wanted, found, places = answer.split(" "), written.split(" "), vowel_words(answer)
    return sum(i < len(found) and found[i] == wanted[i] for i in places), len(places)


def written_by(chain: Chain, texts: Sequence[TestText], letters: Sequence[str]) -> list[str]:
    """Return what a folder writes for each text: the most probable letters, up to the end or one letter too many."""
    begin, found = chain.load(Runtime()), []
    for text in texts:
        walk, tokens = begin(text.start)
        read = greedy(walk, tokens, len(text.tokens), text.end)
        found.append("".join(letters[i] for i in read[1:] if i not in text.end))
    return found


def perplexities(chains: Mapping[str, Chain], texts: Sequence[TestText]) -> dict[str, TextPerplexity]:
    """Return the perplexity of the right answers, read through the caches."""
    loaded = {name: chain.load(Runtime()) for name, chain in chains.items()}

    def read(begin: Begin, text: TestText) -> np.ndarray:
        return shares_of(begin(text.start)[0], text.tokens, Length(1, len(text.tokens)))

    readers = {name: lambda i, begin=begin: read(begin, texts[i]) for name, begin in loaded.items()}
    return perplexity_of(readers, [text.tokens for text in texts])


def speeds(
    folders: Mapping[str, Path], texts: Sequence[TestText], given: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Return the speed of every folder beside the first one."""
    chains = {name: chain_of(folder) for name, folder in folders.items()}
    starts, length = [one.start for one in texts], Length(1, given.new_tokens)
    found = measure_speed(chains, starts, length, Runtime(), seconds=given.seconds)
    return {name: asdict(one) for name, one in found.items()}


def answers(
    folders: Mapping[str, Path], texts: Sequence[TestText], letters: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return how well every folder answers, beside the first one."""
    chains = {name: chain_of(folder) for name, folder in folders.items()}
    read, rows, baseline = perplexities(chains, texts), dict[str, dict[str, Any]](), None
    for name, chain in chains.items():
        written = written_by(chain, texts, letters)
        pairs = [(text.answer, one) for text, one in zip(texts, written, strict=True)]
        right, count = np.array([right_words(*pair) for pair in pairs]).T
        baseline = right if baseline is None else baseline
        rows[name] = {
            "perplexity": asdict(read[name]),
            "word_accuracy": float(right.sum() / count.sum()),
            "word_gain": None if right is baseline else _mean(right - baseline, count),
            "exact_accuracy": float(np.mean([answer == one for answer, one in pairs])),
            "words": int(count.sum()),
        }
    return rows


def _mean(sums: np.ndarray, counts: np.ndarray) -> dict[str, float] | None:
    found = mean_of(sums, tokens=counts, seed=0)
    return None if found is None else asdict(found)


def interval(found: Mapping[str, float] | None, digits: int) -> str:
    if found is None:
        return ""
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def shown(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        speed = row["speed"]
        cells = [
            row["form"],
            f"{row['size_bytes'] / 1e6:.1f} MB",
            f"{speed['first_token_ms']:.2f} ms",
            interval(speed["first_speedup"], 2),
            f"{speed['tokens_per_s']:.0f}",
            interval(speed["rate_speedup"], 2),
            f"{row['perplexity']['value']:.4f}",
            interval(row["perplexity"]["ratio"], 4),
            f"{100 * row['word_accuracy']:.2f} %",
            interval(row["word_gain"], 4),
            f"{100 * row['exact_accuracy']:.2f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="written by bench/trained_seq2seq.py")
    parser.add_argument("--merged", action="store_true", help="measure forms of the folder with a merged decoder")
    parser.add_argument("--variants", action="store_true", help="measure the files of a merged decoder alone")
    parser.add_argument("--no-search", action="store_true", help="measure no folder that a search chooses")
    parser.add_argument("--max-drop", default="0.05pp")
    parser.add_argument("--run", type=Path, help="run folder of the search; one that exists is read, not searched")
    parser.add_argument("--new-tokens", type=int, default=32, help="letters of a timed text")
    parser.add_argument("--limit", type=int, help="largest number of test texts")
    parser.add_argument("--search-limit", type=int, help="largest number of texts in the search")
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, for all forms together")
    parser.add_argument("--latency-seconds", type=float, default=2.0, help="of timing in the search, for each form")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-seq2seq-table.json")
    given = parser.parse_args(arguments)
    if given.variants:
        with tempfile.TemporaryDirectory() as name:
            found = variants_of(
                given.folder / "merged", given.folder / "texts.jsonl", given.search_limit, Path(name) / "made"
            )
        training = json.loads((given.folder / "settings.json").read_text())
        record = {"environment": environment(), "texts": given.search_limit, "training": training, "variants": found}
        given.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
        for one in found:
            print(f"{one['file']:40} {one['size_bytes'] / 1e6:.2f} MB", interval(one["kept"], 4))
        return 0
    whole: Path = given.folder / "model"
    source: Path = given.folder / "merged" if given.merged else whole
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        made, search = chosen(source, given.folder / "texts.jsonl", given.run or place / "run", given)
        onnxopt.quantize_folder(source, out=place / "int8")
        folders = {FLOAT: whole} | ({MERGED: source} if given.merged else {})
        folders |= {INT8: place / "int8", FOUR: in_4_bits(source, place / "four")}
        if made is not None:
            folders[CHOSEN] = made
        texts, letters = texts_of(given.folder, given.limit)
        figures, speed = answers(folders, texts, letters), speeds(folders, texts, given)
        size = {name: sum(file.stat().st_size for file in files_of(one)) for name, one in folders.items()}
        beside = {}
        if made is not None:
            beside = speeds({CHOSEN: made, **{k: v for k, v in folders.items() if k != CHOSEN}}, texts, given)
    rows = [{"form": name, "size_bytes": size[name], "speed": speed[name], **figures[name]} for name in folders]
    record = {
        "environment": environment(),
        "options": {key: value for key, value in vars(given).items() if key not in ("out", "folder", "run")},
        "training": json.loads((given.folder / "settings.json").read_text()),
        "passes": {FOUR: FOUR_BITS, INT8: "simplify,quantize-dynamic"},
        "search": search,
        "models": rows,
        "beside_chosen": beside,
    }
    given.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
    print(shown(rows))
    for name, one in beside.items():
        print(f"Beside the chosen one, {name}:", interval(one["first_speedup"], 2), interval(one["rate_speedup"], 2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
