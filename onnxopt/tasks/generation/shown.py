"""Decoders side by side as a table."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from onnxopt.document import units
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.measure.generation.perplexity import TextPerplexity
from onnxopt.measure.generation.speed import GenerationSpeed, Length
from onnxopt.measure.statistics import Interval
from onnxopt.tasks.bench_words import compared


def generation_document(
    speed: Mapping[str, GenerationSpeed],
    perplexity: Mapping[str, TextPerplexity],
    memory: Mapping[str, int | None],
    *,
    length: Length,
    data: object,
    answers: bool = False,
) -> Document:
    """Return one row per decoder, and sentences that compare it with the first.

    Args:
        speed: by the name of the decoder.
        perplexity: the same; empty without data.
        memory: the same; empty for folders.
        length: of the texts.
        data: the texts.
        answers: whether an encoder reads the data and the first folder answers it.
    """
    titles = ("first token ms", "speed-up", "tokens/s", "speed-up", "perplexity", "private memory", "texts")
    columns = (Column("model"), *(Column(title, number=True) for title in titles))
    rows = tuple(_row(name, one, perplexity.get(name), memory.get(name)) for name, one in speed.items())
    lines = [line for name in list(speed)[1:] for line in _compared(name, next(iter(speed)), speed[name])]
    lines += [perplexity_words(name, one) for name, one in perplexity.items() if one.ratio is not None]
    lines += _answered(length, data, perplexity) if answers else _generated(length, data, perplexity)
    content = {
        "prompt_tokens": length.prompt,
        "new_tokens": length.new,
        "models": [
            {
                "model": name,
                **asdict(one),
                "perplexity": None if name not in perplexity else asdict(perplexity[name]),
                "private_bytes": memory.get(name),
            }
            for name, one in speed.items()
        ],
    }
    return Document((Table(columns, rows), Text(tuple(lines))), content)


def _generated(length: Length, data: object, perplexity: Mapping[str, TextPerplexity]) -> list[str]:
    lines = [
        f"Prompts of {length.prompt} tokens and {length.new} generated ones, from "
        f"{_texts(data, 'tokens drawn at random')}; one text at a time, the models take turns. Private memory: the "
        "largest after a step, in a fresh process."
    ]
    if perplexity:
        lines.append(
            f"Perplexity: of each text up to {length.prompt} tokens are read at once (at most half of it), and up to "
            f"{length.new} further ones one by one, through the cache."
        )
    return lines


def _answered(length: Length, data: object, perplexity: Mapping[str, TextPerplexity]) -> list[str]:
    lines = [
        f"Encoders read {_texts(data, 'made-up inputs')}, decoders generate {length.new} tokens; one text at a time, "
        "the folders take turns. The first token includes the encoder."
    ]
    if perplexity:
        lines.append(
            f"Perplexity: of the first folder's answers, up to {length.new} tokens read one by one through the cache."
        )
    return lines


def _texts(data: object, otherwise: str) -> str:
    if data is None:
        return otherwise
    return f"texts of {data}" if isinstance(data, str | Path) else "the texts given"


def _row(name: str, one: GenerationSpeed, perplexity: TextPerplexity | None, memory: int | None) -> tuple[str, ...]:
    first, rate = (units.significant(value) for value in (one.first_token_ms, one.tokens_per_s))
    return (
        name,
        "-" if one.first_unsure else first,
        _ratio(one.first_speedup, one.first_unsure),
        "-" if one.rate_unsure else rate,
        _ratio(one.rate_speedup, one.rate_unsure),
        "-" if perplexity is None else units.significant(perplexity.value),
        "-" if memory is None else units.size(memory),
        str(one.texts),
    )


def _ratio(interval: Interval | None, unsure: str) -> str:
    if interval is None:
        return "unsure" if unsure else "-"
    return f"{units.times(interval.value)}\n{units.times_interval(interval)}"


def _compared(name: str, other: str, one: GenerationSpeed) -> list[str]:
    return [
        f"{when}, the speed of {name} is unsure: {unsure}."
        if ratio is None
        else f"{when}, {compared(name, other, ratio.low, ratio.value, ratio.high)}."
        for when, ratio, unsure in (
            ("To the first token", one.first_speedup, one.first_unsure),
            ("Token by token", one.rate_speedup, one.rate_unsure),
        )
    ]


def perplexity_words(name: str, one: TextPerplexity) -> str:
    """Return the differences from the baseline's perplexity and tokens, with their intervals."""
    assert one.ratio is not None
    assert one.divergence is not None
    assert one.same_token is not None
    low, value, high = (100 * (number - 1) for number in (one.ratio.low, one.ratio.value, one.ratio.high))
    nats = [units.significant(number) for number in (one.divergence.value, one.divergence.low, one.divergence.high)]
    return (
        f"The perplexity of {name} differs by {value:+.2f} % [{low:+.2f} %, {high:+.2f} %] on {one.tokens} tokens of "
        f"{one.texts} texts. The divergence of a token from the baseline's is {nats[0]} nats [{nats[1]}, {nats[2]}]; "
        f"{units.share(one.same_token, 1)} of the best guesses are the same."
    )
