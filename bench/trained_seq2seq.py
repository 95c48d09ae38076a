"""A small encoder-decoder, trained on sentences of the developer pack to write hidden vowels, exported to ONNX.

    python bench/trained_seq2seq.py FOLDER [--layers 3] [--width 192] [--epochs 5]

The encoder reads `th_ m_v__ _s gr__t` letter by letter, the decoder writes `the movie is great`. Writes `model/`, laid
out as Optimum does (`onnx/encoder_model.onnx`, `onnx/decoder_model.onnx`, `onnx/decoder_with_past_model.onnx`,
`config.json`, `tokenizer.json`), `merged/`, which has the same weights with both decoders as one
(`onnx/decoder_model_merged.onnx`), texts for a search that it is not trained on (`texts.jsonl`), test texts with their
answers (`test.jsonl`) and `settings.json`. Trains on one thread. Nothing of it belongs to this project: the sentences
have no clear licence.
"""

import argparse
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from seq2seq_merged import write_merged
from seq2seq_model import DROPOUT, HEADS, LONGEST, Encoder, FirstTokens, LaterTokens, Model
from torch import nn
from training_text import BATCH, IGNORED, RATE, Batch, groups, learn, mask_of, padded, sentences_of

WEIGHT_DECAY = 0.05
ENCODED, WRITTEN = "encoder_sequence_length", "decoder_sequence_length"
PAD, UNKNOWN, END = range(3)
"""Numbers of the first tokens; a text of the decoder begins with padding, as those of T5 and Marian do."""

SEARCHED = 400
"""Sentences of the training file that are left for a search."""


def hidden_vowels(text: str) -> str:
    """Return a text with each vowel replaced by a line."""
    return re.sub("[aeiou]", "_", text)


def pieces(words: Sequence[str]) -> list[str]:
    """Return texts of at most `LONGEST` letters of the words one behind the other; longer words are left out."""
    found, latest = list[str](), ""
    for word in words:
        if len(latest) + 1 + len(word) > LONGEST and latest:
            found.append(latest)
            latest = ""
        if len(word) <= LONGEST:
            latest = f"{latest} {word}".lstrip()
    return [*found, latest] if latest else found


def vocabulary_of(texts: Sequence[str]) -> dict[str, object]:
    """Return the letters of texts as a tokenizer."""
    letters = sorted({letter for text in texts for letter in text} | {"_"})
    return {"vocab": ["[PAD]", "[UNK]", "</s>", *letters], "regex": r"(?s:.)", "max_len": LONGEST}


def trained(sentences: Sequence[str], vocab: Sequence[str], layers: int, width: int, epochs: int) -> Model:
    """Return an encoder-decoder trained to write the vowels of the sentences."""
    torch.manual_seed(0)
    rng, model = np.random.default_rng(0), Model(layers, width, len(vocab))
    number = {letter: i for i, letter in enumerate(vocab)}
    words = [word for sentence in sentences for word in sentence.split()]

    def batches(texts: Sequence[str]) -> Iterator[Batch]:
        for some in groups([len(text) for text in texts], rng):
            answers = [[number.get(letter, UNKNOWN) for letter in texts[i]] for i in some]
            given = [[number.get(letter, UNKNOWN) for letter in hidden_vowels(texts[i])] for i in some]
            ids, mask = padded(given, PAD), mask_of(given)
            begun = padded([[PAD, *one] for one in answers], PAD)
            yield (lambda i=ids, m=mask, b=begun: model(i, m, b)), padded([[*one, END] for one in answers], IGNORED)

    # Texts of each epoch are cut at other words, so that every word is seen at every place.
    begins = rng.integers(0, len(words), epochs)
    cut = [pieces([*words[begin:], *words[:begin]]) for begin in begins]
    learn(model, map(batches, cut), sum(-(-len(one) // BATCH) for one in cut), weight_decay=WEIGHT_DECAY)
    return model.eval()


def export(model: Model, folder: Path) -> None:
    """Write encoder and decoders with the names that Optimum gives to inputs and outputs."""
    width, count = model.tokens.weight.shape[1], len(model.decoder)
    read, ids = torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 4, dtype=torch.int64)
    cache = {f"{i}.{role}.{half}": torch.zeros(2, HEADS, {"decoder": 3, "encoder": 5}[role], width // HEADS)
             for i in range(count) for role in ("decoder", "encoder") for half in ("key", "value")}  # fmt: skip
    present, own = [f"present.{name}" for name in cache], [f"present.{name}" for name in cache if "decoder" in name]
    past = {f"past_key_values.{name}": array for name, array in cache.items()}
    decoder = {"encoder_attention_mask": read, "input_ids": ids}
    folder.mkdir(parents=True, exist_ok=True)
    _write(Encoder(model), folder / "encoder_model.onnx", {"input_ids": read, "attention_mask": read},
           ["last_hidden_state"], {"input_ids": ENCODED})  # fmt: skip
    _write(FirstTokens(model), folder / "decoder_model.onnx",
           {**decoder, "encoder_hidden_states": torch.zeros(2, 5, width)}, ["logits", *present], {})  # fmt: skip
    _write(LaterTokens(model), folder / "decoder_with_past_model.onnx", {**decoder, **past}, ["logits", *own],
           dict.fromkeys(own, f"past_{WRITTEN} + 1"))  # fmt: skip


def _write(
    module: nn.Module, path: Path, given: Mapping[str, torch.Tensor], found: Sequence[str], lengths: Mapping[str, str]
) -> None:
    """Write a module; `lengths` names the free axis of values whose names do not say it."""
    axes = {name: {0: "batch_size", 2 if ".key" in name or ".value" in name else 1: lengths.get(name, _length(name))}
            for name in (*given, *found)}  # fmt: skip
    torch.onnx.export(
        module.eval(),
        tuple(given.values()),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=list(given),
        output_names=list(found),
        dynamic_axes=axes,
    )


def merge(source: Path, out: Path) -> None:
    """Write the folder again, with both decoders in one file."""
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("decoder*.onnx"))
    first, later = (source / "onnx" / f"{name}.onnx" for name in ("decoder_model", "decoder_with_past_model"))
    write_merged(first, later, out / "onnx" / "decoder_model_merged.onnx")


def _length(name: str) -> str:
    """Return the name of the axis that is as long as the text."""
    if name in ("input_ids", "logits") or ".decoder." in name:
        return f"past_{WRITTEN}" if name.startswith("past") else WRITTEN
    return ENCODED


def write(folder: Path, *, layers: int, width: int, epochs: int) -> None:
    """Train on the training sentences and write models, tokenizer, configuration and test texts."""
    torch.set_num_threads(1)
    sentences, tests = sentences_of("sst2_train5k.tsv"), sentences_of("sst2_test.tsv")
    apart, sentences = sentences[:SEARCHED], sentences[SEARCHED:]
    vocabulary = vocabulary_of(sentences)
    begun = time.process_time()
    model = trained(sentences, vocabulary["vocab"], layers, width, epochs)
    spent = time.process_time() - begun
    export(model, folder / "model" / "onnx")
    config = {"is_encoder_decoder": True, "decoder_start_token_id": PAD, "pad_token_id": PAD, "eos_token_id": END}
    (folder / "model" / "config.json").write_text(json.dumps({**config, "vocab_size": len(vocabulary["vocab"])}))
    (folder / "model" / "tokenizer.json").write_text(json.dumps(vocabulary))
    merge(folder / "model", folder / "merged")
    settings = {"layers": layers, "width": width, "epochs": epochs, "heads": HEADS, "letters": LONGEST, "batch": BATCH}
    settings |= {"rate": RATE, "dropout": DROPOUT, "weight_decay": WEIGHT_DECAY, "processor_s": round(spent)}
    (folder / "settings.json").write_text(json.dumps(settings) + "\n")
    for name, some in {"texts.jsonl": apart, "test.jsonl": tests}.items():
        cut = [text for one in some for text in pieces(one.split())]
        rows = [json.dumps({"text": hidden_vowels(text), "answer": text}) + "\n" for text in cut]
        (folder / name).write_text("".join(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=3, help="of the encoder, and of the decoder")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args(arguments)
    write(given.folder, layers=given.layers, width=given.width, epochs=given.epochs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
