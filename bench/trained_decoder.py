"""A small decoder with a cache, trained on sentences of the developer pack, exported to ONNX.

    python bench/trained_decoder.py FOLDER [--layers 4] [--width 256] [--epochs 5]

Writes `decoder.onnx` with inputs of past keys and values, the same with GroupQueryAttention (`grouped.onnx`),
`vocab.json`, sentences for a search that it is not trained on (`sentences.jsonl`), the test sentences (`prompts.jsonl`)
and `settings.json`. Trains on one thread. Nothing of it belongs to this project: the sentences have no clear licence.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from training_text import BATCH, IGNORED, RATE, Batch, groups, learn, mask_of, padded, sentences_of

from onnxopt.samples.tokenizer import Vocabulary, open_vocab

VOCABULARY, HEADS, LONGEST, DROPOUT, WEIGHT_DECAY = 1024, 8, 256, 0.2, 0.1

SEARCHED = 200
"""Sentences of the training file that are left for a search."""


class Grouped(torch.autograd.Function):
    """Causal attention as one node of ONNX Runtime, which keeps the cache in any type; for export only."""

    @staticmethod
    def forward(ctx, query, key, value, past_key, past_value, last, total):
        longer = [torch.cat((past, new.unflatten(2, (HEADS, -1)).transpose(1, 2)), 2)
                  for past, new in ((past_key, key), (past_value, value))]  # fmt: skip
        return torch.zeros_like(query), *longer

    @staticmethod
    def symbolic(g, *inputs):
        name = "com.microsoft::GroupQueryAttention"
        return g.op(name, *inputs, num_heads_i=HEADS, kv_num_heads_i=HEADS, outputs=3)


class Block(nn.Module):
    """Causal attention and two layers, each behind a LayerNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.parts, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(DROPOUT)

    def grouped(
        self, x: torch.Tensor, ends: tuple[torch.Tensor, torch.Tensor], key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what `forward` does, by one node for the attention."""
        parts = self.parts(self.first(x)).split(x.shape[2], dim=-1)
        mixed, key, value = Grouped.apply(*parts, key, value, *ends)
        x = x + self.mixed(mixed)
        return x + self.down(functional.gelu(self.up(self.second(x)))), key, value

    def forward(
        self, x: torch.Tensor, bias: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch, steps, width = x.shape
        query, new_key, new_value = (
            part.reshape(batch, steps, HEADS, width // HEADS).transpose(1, 2)
            for part in self.parts(self.first(x)).split(width, dim=-1)
        )
        key, value = torch.cat((key, new_key), 2), torch.cat((value, new_value), 2)
        shares = torch.softmax(query @ key.transpose(2, 3) * (width // HEADS) ** -0.5 + bias, -1)
        mixed = (shares @ value).transpose(1, 2).reshape(batch, steps, width)
        x = x + self.drop(self.mixed(mixed))
        x = x + self.drop(self.down(functional.gelu(self.up(self.second(x)))))
        return x, key, value


class Decoder(nn.Module):
    """Tokens, a mask over past and present ones, positions and the cache in; logits and the longer cache out."""

    def __init__(self, layers: int, width: int, vocabulary: int) -> None:
        super().__init__()
        self.width, self.in_one_node = width, False
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(LONGEST, width)
        self.blocks, self.last = nn.ModuleList(Block(width) for _ in range(layers)), nn.LayerNorm(width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        x = self.tokens(input_ids) + self.places(position_ids)
        if self.in_one_node:
            ends = (attention_mask.sum(1) - 1).int(), torch._shape_as_tensor(attention_mask)[1].int()
            return self._grouped(x, ends, *past)
        place = attention_mask.cumsum(1) - 1
        hidden = (place[:, None, None, :] > position_ids[:, None, :, None]) | (attention_mask[:, None, None, :] == 0)
        bias = torch.where(hidden, -1e9, 0.0)
        kept: list[torch.Tensor] = []
        for i, block in enumerate(self.blocks):
            x, key, value = block(x, bias, past[2 * i], past[2 * i + 1])
            kept += [key, value]
        # The table of tokens is the last product too, as in GPT-2.
        return self.last(x) @ self.tokens.weight.T, *kept

    def _grouped(
        self, x: torch.Tensor, ends: tuple[torch.Tensor, torch.Tensor], *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        kept: list[torch.Tensor] = []
        for i, block in enumerate(self.blocks):
            x, key, value = block.grouped(x, ends, past[2 * i], past[2 * i + 1])
            kept += [key, value]
        return self.last(x) @ self.tokens.weight.T, *kept

    def empty(self, batch: int) -> list[torch.Tensor]:
        """Return a cache of nothing."""
        return [torch.zeros(batch, HEADS, 0, self.width // HEADS) for _ in range(2 * len(self.blocks))]


def vocabulary_of(sentences: Sequence[str]) -> dict[str, object]:
    """Return the characters and the most frequent words of sentences; other words are spelled."""
    letters = sorted({letter for sentence in sentences for letter in sentence})
    counted = Counter(word for sentence in sentences for word in re.findall(r" [a-z]{2,}(?![a-z])", sentence))
    words = [word for word, _ in counted.most_common(VOCABULARY - 3 - len(letters))]
    either = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return {
        "vocab": ["[PAD]", "[UNK]", "[CLS]", *letters, *words],
        "regex": f"(?:{either})(?![a-z])|.",
        "max_len": LONGEST,
    }


def trained(ids: Sequence[Sequence[int]], layers: int, width: int, epochs: int) -> Decoder:
    """Return a decoder trained to predict the next token of the sentences."""
    torch.manual_seed(0)
    rng, model = np.random.default_rng(0), Decoder(layers, width, VOCABULARY)

    def batches() -> Iterator[Batch]:
        for some in groups([len(one) for one in ids], rng):
            texts = [ids[i] for i in some]
            tokens, mask = padded(texts), mask_of(texts)
            given = tokens, mask, torch.arange(tokens.shape[1]).expand(tokens.shape), *model.empty(len(tokens))
            yield lambda given=given: model(*given)[0][:, :-1], padded([one[1:] for one in texts], IGNORED)

    learn(model, (batches() for _ in range(epochs)), epochs * -(-len(ids) // BATCH), weight_decay=WEIGHT_DECAY)
    return model.eval()


def export(model: Decoder, path: Path) -> None:
    """Write the decoder with the names that Transformers gives to inputs and outputs."""
    names = [f"{i}.{role}" for i in range(len(model.blocks)) for role in ("key", "value")]
    past, present = [f"past_key_values.{name}" for name in names], [f"present.{name}" for name in names]
    cache = [torch.zeros(2, HEADS, 3, model.width // HEADS) for _ in names]
    tokens = torch.ones(2, 4, dtype=torch.int64)
    torch.onnx.export(
        model,
        (tokens, torch.ones(2, 7, dtype=torch.int64), torch.arange(3, 7).expand(2, 4), *cache),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["input_ids", "attention_mask", "position_ids", *past],
        output_names=["logits", *present],
        dynamic_axes={
            **{name: {0: "batch_size", 1: "sequence_length"} for name in ("input_ids", "position_ids", "logits")},
            "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
            **{name: {0: "batch_size", 2: "past_sequence_length"} for name in past},
            **{name: {0: "batch_size", 2: "total_sequence_length"} for name in present},
        },
    )


def write(folder: Path, *, layers: int, width: int, epochs: int) -> None:
    """Train on the training sentences and write model, vocabulary and test sentences."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    sentences = sentences_of("sst2_train5k.tsv")
    apart, sentences = sentences[:SEARCHED], sentences[SEARCHED:]
    (folder / "vocab.json").write_text(json.dumps(vocabulary_of(sentences)))
    words = open_vocab(folder / "vocab.json")
    assert isinstance(words, Vocabulary)
    model = trained([words.encode(one) for one in sentences], layers, width, epochs)
    export(model, folder / "decoder.onnx")
    model.in_one_node = True
    export(model, folder / "grouped.onnx")
    settings = {"layers": layers, "width": width, "epochs": epochs, "vocabulary": VOCABULARY, "batch": BATCH}
    (folder / "settings.json").write_text(json.dumps({**settings, "rate": RATE, "dropout": DROPOUT}) + "\n")
    tables = {"sentences.jsonl": apart, "prompts.jsonl": sentences_of("sst2_test.tsv")}
    for name, some in tables.items():
        (folder / name).write_text("".join(json.dumps({"text": one}) + "\n" for one in some))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args(arguments)
    write(given.folder, layers=given.layers, width=given.width, epochs=given.epochs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
