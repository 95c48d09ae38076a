import numpy as np
import pytest
from measure_models import linear

from onnxopt.errors import FileError, ModelError
from onnxopt.measure.forms import load
from onnxopt.measure.forms.deployment import Deployment, prepacked
from onnxopt.measure.forms.load import load_session, refuse_another_machine, this_machine
from onnxopt.measure.forms.session_file import MadeFor, SessionFile, SessionSettings, session_settings
from onnxopt.model_file import save
from onnxopt.options.runtime import FullRuntime

HERE = this_machine()


@pytest.fixture
def model(tmp_path):
    (path,) = save(linear(np.eye(3)), tmp_path / "model.onnx")
    return path


def session_file(model, **changes) -> SessionFile:
    content = SessionFile(
        model=model.name,
        size_bytes=model.stat().st_size,
        form="onnx",
        made_for=None,
        settings=SessionSettings(arena=False, entries={"session.disable_prepacking": "1"}),
        goal="latency",
        gain=None,
        latency=None,
    ).model_copy(update=changes)
    model.with_name("session.json").write_text(content.model_dump_json())
    return content


def test_a_model_is_loaded_with_its_settings(model):
    session_file(model)
    for where in (model.parent, str(model.parent / "session.json")):
        session = load_session(where)
        options = session.get_session_options()
        assert not options.enable_cpu_mem_arena
        assert options.intra_op_num_threads == 1
        assert options.get_session_config_entry("session.disable_prepacking") == "1"
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], x)


def test_a_prepacked_file_is_loaded_on_the_machine_it_is_for(model):
    made = prepacked(Deployment(model, FullRuntime()), model.parent, "model")
    session_file(made.file, form="prepacked", made_for=HERE, settings=session_settings(made.runtime))
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(load_session(model.parent).run(None, {"x": x})[0], x)


def test_a_prepacked_file_is_refused_on_another_processor(model):
    other = HERE.model_copy(update={"instruction_sets": ("of_a_later_processor",)})
    session_file(model, form="prepacked", made_for=other)
    with pytest.raises(ModelError, match=r"ONX314.*lacks of_a_later_processor") as caught:
        load_session(model.parent)
    assert "onnxopt session" in caught.value.hint


def test_processors_differ_also_where_the_system_lists_no_instruction_sets(model, monkeypatch):
    monkeypatch.setattr(load, "instruction_sets", list)
    monkeypatch.setattr(load.platform, "processor", lambda: "Intel64 Family 6 Model 85")
    content = session_file(model, form="ort", made_for=load.this_machine())
    refuse_another_machine(content, model, load.this_machine())
    monkeypatch.setattr(load.platform, "processor", lambda: "Intel64 Family 6 Model 207")
    with pytest.raises(ModelError, match=r"ONX314.*Model 207"):
        refuse_another_machine(content, model, load.this_machine())


MADE = MadeFor(architecture="x86_64", instruction_sets=("avx2", "avx512f"), onnxruntime="1.32.0")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architecture": "aarch64"}, "it is for x86_64, this is aarch64"),
        ({"onnxruntime": "1.33.0"}, "ONNX Runtime 1.32.0 wrote it, this is 1.33.0"),
        ({"instruction_sets": ("avx2",)}, "this processor lacks avx512f"),
        ({"instruction_sets": ("avx2", "avx512f", "amx_int8")}, "this processor has amx_int8 besides"),
    ],
)
def test_the_reason_of_a_refusal_names_the_difference(model, changes, why):
    content = session_file(model, form="ort", made_for=MADE)
    refuse_another_machine(content, model, MADE)
    with pytest.raises(ModelError, match="ONX314") as caught:
        refuse_another_machine(content, model, MADE.model_copy(update=changes))
    assert caught.value.why == why


def test_settings_of_another_model_are_refused(model):
    session_file(model)
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"ONX314.*another model"):
        load_session(model.parent)


def test_a_missing_model_is_named(model):
    session_file(model)
    model.unlink()
    with pytest.raises(FileError, match=r"ONX501.*model\.onnx"):
        load_session(model.parent)
