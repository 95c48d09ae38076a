"""Sentences of the developer pack to train small models of language on: read, put together to batches, learned from."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from pack import ROOT
from torch import nn
from torch.nn import functional

BATCH, RATE = 32, 2e-3
IGNORED = -100
"""Target of a place that has none."""

Batch = tuple[Callable[[], torch.Tensor], torch.Tensor]
"""A call that returns logits, shape `(texts, tokens, vocabulary)`, and their targets, shape `(texts, tokens)`."""


def sentences_of(name: str) -> list[str]:
    """Return the sentences of a table of the pack, without their labels.

    Raises:
        SystemExit: the pack is not there.
    """
    path = ROOT / "data" / name
    if not path.is_file():
        raise SystemExit(
            f"This trains on sentences of the developer pack, and there is no {path}: name the folder of the pack by "
            "ONNXOPT_PACK=/its/path (its licences forbid to publish it here)."
        )
    with path.open(newline="") as file:
        return [row[0].strip() for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row]


def groups(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield the numbers of texts of about equal length together, in random order."""
    order = sorted(rng.permutation(len(lengths)).tolist(), key=lambda i: lengths[i])
    for start in rng.permutation(range(0, len(order), BATCH)):
        yield order[start : start + BATCH]


def padded(texts: Sequence[Sequence[int]], fill: int = 0) -> torch.Tensor:
    """Return tokens of texts as one array, shape `(texts, most tokens)`, filled up at the end."""
    longest = max(map(len, texts))
    return torch.tensor([[*one, *[fill] * (longest - len(one))] for one in texts])


def mask_of(texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return ones for the tokens of texts and zeros behind them."""
    return padded([[1] * len(one) for one in texts])


def learn(model: nn.Module, epochs: Iterable[Iterable[Batch]], steps: int, *, weight_decay: float) -> None:
    """Train to give the most probability to the targets of each batch; print the loss of each epoch.

    Args:
        model: learns by AdamW, whose rate rises for a tenth of the steps and falls to zero.
        epochs: the batches of each.
        steps: batches of all epochs.
        weight_decay: of AdamW.
    """
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    for number, batches in enumerate(epochs):
        losses = []
        for logits_of, targets in batches:
            with torch.autocast("cpu", torch.bfloat16):  # several times as fast where the processor has AMX
                logits = logits_of()
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {number + 1}: {np.mean(losses):.3f} nats per token", flush=True)
