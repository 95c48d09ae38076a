import json

import onnx
import pytest

from onnxopt.document.blocks import Column, Document, Facts, Table, Text
from onnxopt.document.markdown import to_markdown
from onnxopt.document.terminal import to_text
from onnxopt.errors import UsageError
from onnxopt.printable import printable

EVIL = ["\x1b]0;title\x07", "\x9b31m", "\u202eabc", "a\rb", "\x00", "\x7f", "\u2066", "\ud800"]


def _is_clean(text):
    return all(printable(c) == c for c in text) and text.encode() is not None


@pytest.mark.parametrize("evil", EVIL)
def test_no_control_character_is_printed(evil):
    table = Table((Column(evil),), ((evil,),), evil)
    document = Document((table, Facts(((evil, evil),), evil), Text((evil,))))
    for text in (to_text(document), to_text(document, colour=False), to_markdown(document)):
        assert _is_clean(text)
    assert _is_clean(str(UsageError("ONX101", evil, where=evil, why=evil, hint=evil)))


def test_text_of_all_languages_stays():
    text = "naïve, 日本語, العربية, emoji 😀, tab\tand\nline"
    assert printable(text) == text


@pytest.mark.parametrize("command", ["inspect", "check", "optimize", "quantize"])
@pytest.mark.parametrize("form", ["text", "json", "md"])
def test_names_of_a_model_do_not_reach_the_terminal(cli, tmp_path, command, form):
    name = "x\x1b]52;c;aGk=\x07\u202e"
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", [name], ["y\x9b2J"], name=f"n{name}")
    graph = onnx.helper.make_graph([node], f"g{name}", [value(name, 1, [1, 2])], [value("y\x9b2J", 1, [1, 2])])
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    words = {"quantize": ["--data", f"no{name}.npz", "-o", tmp_path / "o.onnx"], "optimize": ["--data", "random:4"]}
    out = ["--out", tmp_path / "run", "--dry-run"] if command == "optimize" else []
    ended = cli(command, path, *words.get(command, []), *out, "--format", form)
    assert _is_clean(ended.out)
    assert _is_clean(ended.err)
    if form == "json" and ended.out:
        json.loads(ended.out)
