import json

import pytest

from onnxopt.errors import FileError, UsageError
from onnxopt.measure.forms.session_file import (
    ENTRIES,
    MadeFor,
    SessionFile,
    SessionSettings,
    read_session_file,
    runtime_of,
    session_settings,
)
from onnxopt.options.runtime import FullRuntime

CONTENT = SessionFile(
    model="model.session.onnx",
    size_bytes=10,
    form="prepacked",
    made_for=MadeFor(architecture="x86_64", instruction_sets=("avx2",), onnxruntime="1.32.0"),
    settings=SessionSettings(threads=2, arena=False, entries={"session.dynamic_block_base": "4"}),
    goal="memory",
    gain=None,
    latency=None,
    code={"python": ("a", "b", "c")},
)


def written(folder, **changes):
    path = folder / "session.json"
    path.write_text(json.dumps(CONTENT.model_dump(mode="json") | changes))
    return path


def test_what_is_written_is_read_again(tmp_path):
    assert read_session_file(written(tmp_path)) == CONTENT


def test_settings_and_configurations_are_two_views_of_the_same():
    runtime = FullRuntime("cpu", 2, "basic", (("session.disable_prepacking", "1"),), 3, False, False)
    assert runtime_of(session_settings(runtime)) == runtime


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"more": 1}, "more"),
        ({"format": 2}, "format"),
        ({"model": "../model.onnx"}, "plain file name"),
        ({"model": "/etc/model.onnx"}, "plain file name"),
        ({"model": "C:model.onnx"}, "plain file name"),
        ({"model": ".."}, "plain file name"),
        ({"model": "a\nb"}, "plain file name"),
        ({"form": "engine"}, "form"),
        ({"made_for": None}, "made_for is missing"),
        ({"size_bytes": "10"}, "size_bytes"),
        ({"settings": {"threads": 0}}, "settings.threads"),
        ({"settings": {"threads": True}}, "settings.threads"),
        ({"settings": {"inter_threads": 1025}}, "settings.inter_threads"),
        ({"settings": {"entries": {"session.load_model_format": "ORT"}}}, "session.load_model_format=ORT"),
        ({"settings": {"entries": {"mlas.nchwc_pointwise_conv_max_input_channel_batch": "x"}}}, "channel_batch=x"),
        ({"settings": {"arena": 1}}, "settings.arena"),
        ({"settings": {"library": "evil.so"}}, "settings.library"),
    ],
)
def test_nothing_but_known_keys_and_values_is_read(tmp_path, changes, why):
    with pytest.raises(UsageError, match="ONX105") as caught:
        read_session_file(written(tmp_path, **changes))
    assert why in caught.value.why


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "[" * 100_000])
def test_other_files_are_refused_in_words(tmp_path, text):
    path = tmp_path / "session.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="ONX105"):
        read_session_file(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileError, match="ONX501"):
        read_session_file(tmp_path / "session.json")
    with pytest.raises(FileError, match="ONX505"):
        read_session_file(tmp_path)


def test_no_entry_that_is_read_loads_code_or_writes_files():
    assert not [key for key in ENTRIES if any(word in key for word in ("file", "path", "library", "profil", "log"))]
