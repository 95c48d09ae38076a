"""A command in a text is never broken, whatever the width: it is there to be copied."""

from onnxopt.document.blocks import Document, Text
from onnxopt.document.terminal import to_text


def test_an_indented_line_is_whole_and_others_are_wrapped():
    command = "    onnxopt optimize a-model-with-a-long-name.onnx --data samples.npz --max-drop 1pp"
    sentence = "Words that go on and on and on until they no longer fit into a line of forty characters."
    lines = to_text(Document((Text((sentence, command)),)), width=40).splitlines()
    assert lines[-1] == command
    assert len(lines) > 3
    assert all(len(line) <= 40 for line in lines[:-1])


def test_a_number_stays_beside_its_unit():
    sentence = "Predicted time of the mixed candidates: 27 %, 28 %, 30 %."
    lines = to_text(Document((Text((sentence,)),)), width=len(sentence) - 2).splitlines()
    assert lines == ["Predicted time of the mixed candidates: 27 %, 28 %,", "30 %."]


def test_a_wrapped_line_stays_indented():
    sentence = "  Make samples from a folder of images; further options as in training: --mean:"
    lines = to_text(Document((Text(("With samples:", sentence)),)), width=50).splitlines()
    assert lines == [
        "With samples:",
        "  Make samples from a folder of images; further",
        "  options as in training: --mean:",
    ]


def test_a_command_alone_on_a_long_line_stays_whole() -> None:
    command = f"onnxopt optimize {'long-' * 16}name.onnx --data samples.npz"
    assert command in to_text(Document((Text((command,)),)), width=80)
