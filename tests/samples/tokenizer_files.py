"""Contents of small tokenizer.json files of the usual kinds, written by hand."""

from typing import Any

WORDS = ["the", "a", "film", "is", "good", "bad", "very", "and", "not", "we", "naive", "cafe"]


def _special(*names: str) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": i, "content": name, **flags} for i, name in enumerate(names)]


def _file(model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    parts_of_all = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {"version": "1.0", **parts_of_all, "added_tokens": [], **parts, "model": model}


def _template(first: str | None, last: tuple[str, int] | None, ids: dict[str, int]) -> dict[str, Any]:
    """Return a template for one sentence; `last` is a token and its type."""
    single: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    if first:
        single.insert(0, {"SpecialToken": {"id": first, "type_id": 0}})
    if last:
        single.append({"SpecialToken": {"id": last[0], "type_id": last[1]}})
    tokens = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in ids.items()}
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def word_piece() -> dict[str, Any]:
    """Return the kind of BERT."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*special, *WORDS, *letters, *(f"##{one}" for one in letters), "##ly", ".", ",", "'"]
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {piece: i for i, piece in enumerate(pieces)},
    }
    cleaning = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return _file(
        model,
        added_tokens=_special(*special),
        normalizer={"type": "BertNormalizer", **cleaning},
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=_template("[CLS]", ("[SEP]", 0), {"[CLS]": 2, "[SEP]": 3}),
    )


def _letters_of_bytes() -> list[str]:
    """Return the printable letter that byte-level BPE has for each byte."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in shown else next(others)) for byte in range(256)]


def byte_level_bpe() -> dict[str, Any]:
    """Return the kind of GPT-2, without padding."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "f"), ("i", "l"), ("Ġf", "il"), ("Ġfil", "m"), ("o", "o"), ("g", "oo")]
    pieces = ["<|endoftext|>", *_letters_of_bytes(), *("".join(pair) for pair in merges)]
    model = {"type": "BPE", "vocab": {one: i for i, one in enumerate(pieces)}, "merges": list(map(" ".join, merges))}
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return _file(model, added_tokens=_special("<|endoftext|>"), pre_tokenizer=step, post_processor=step, decoder=step)


def unigram() -> dict[str, Any]:
    """Return the kind of XLNet: the last token is of type 2, and what fills goes first."""
    special = ["<unk>", "<pad>", "<sep>", "<cls>"]
    pieces = [*special, *(f"▁{word}" for word in WORDS), "▁", *"abcdefghijklmnopqrstuvwxyz.,", "oo", "ly"]
    scores = [[piece, 0.0 if i < len(special) else -1.0 - i / 7] for i, piece in enumerate(pieces)]
    pad = {"pad_to_multiple_of": None, "pad_id": 1, "pad_type_id": 3, "pad_token": "<pad>"}
    return _file(
        {"type": "Unigram", "unk_id": 0, "vocab": scores, "byte_fallback": False},
        added_tokens=_special(*special),
        padding={"strategy": "BatchLongest", "direction": "Left", **pad},
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}]},
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        post_processor=_template(None, ("<cls>", 2), {"<cls>": 3}),
    )


def bpe_with_bytes() -> dict[str, Any]:
    """Return the kind of Llama: unknown letters are bytes; it cuts texts to 9 tokens, from their left."""
    special = ["<unk>", "<s>", "</s>"]
    merges = [["▁", "f"], ["i", "l"], ["▁f", "il"], ["▁fil", "m"], ["o", "o"]]
    letters = "▁abcdefghijklmnopqrstuvwxyz.,"
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *map("".join, merges)]
    model = {
        "type": "BPE",
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": {piece: i for i, piece in enumerate(pieces)},
        "merges": merges,
    }
    steps = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    return _file(
        model,
        added_tokens=_special(*special),
        truncation={"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0},
        normalizer={"type": "Sequence", "normalizers": steps},
        post_processor=_template("<s>", None, {"<s>": 1}),
    )
