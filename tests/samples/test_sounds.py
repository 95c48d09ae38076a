"""Sound becomes one channel at one rate, in whole clips or windows; other files and models are refused."""

import os

import numpy as np
import pytest
from sample_signatures import one, signature

from onnxopt.errors import DataError, UsageError
from onnxopt.model_file import TensorSpec
from onnxopt.samples import ReadOptions, open_samples
from tests.samples.waves import tone, write

pytest.importorskip("soundfile", reason="libsndfile decodes sound")
WAVES = one("batch", "samples")


def reads(samples, index: int = 0) -> np.ndarray:
    return next(iter(samples.source.read(index).values()))


def test_channels_become_their_mean(tmp_path):
    left, right = tone(1000), tone(1000, hz=880)
    write(tmp_path / "a.wav", np.stack([left, right], axis=1))
    samples = open_samples(tmp_path, WAVES)
    assert reads(samples).shape == (1000,)
    assert reads(samples) == pytest.approx((left + right) / 2, abs=2 / 32768)


@pytest.mark.parametrize(("before", "after"), [(8000, 16000), (44100, 16000), (48000, 8000)])
def test_another_rate_is_the_same_tone(tmp_path, before, after):
    write(tmp_path / "a.wav", tone(before, before), before)
    samples = open_samples(tmp_path, WAVES, options=ReadOptions(sample_rate=after))
    heard = reads(samples)
    assert len(heard) == after
    middle = slice(after // 10, -after // 10)
    assert heard[middle] == pytest.approx(tone(after, after)[middle], abs=2e-3)


def test_files_of_several_rates_need_the_models(tmp_path):
    write(tmp_path / "a.wav", tone(1600), 16000)
    write(tmp_path / "b.wav", tone(800, 8000), 8000)
    with pytest.raises(UsageError, match=r"ONX113.*b\.wav.*8000 Hz, and a\.wav has 16000 Hz"):
        open_samples(tmp_path, WAVES)
    samples = open_samples(tmp_path, WAVES, options=ReadOptions(sample_rate=16000))
    assert [reads(samples, i).shape for i in (0, 1)] == [(1600,), (1600,)]


def test_windows_follow_each_other_in_files_and_resampled_ones(tmp_path):
    write(tmp_path / "dog" / "b.wav", tone(1100))
    write(tmp_path / "cat" / "a.wav", tone(250, 8000), 8000)
    samples = open_samples(tmp_path, one("batch", 1, 400), options=ReadOptions(sample_rate=16000))
    assert len(samples) == 3  # 500 samples give one window, 1100 give two
    assert list(samples.labels) == [0, 1, 1]
    assert reads(samples).shape == (1, 400)
    heard = np.concatenate([reads(samples, i)[0] for i in (1, 2)])
    assert heard == pytest.approx(tone(1100)[:800], abs=2 / 32768)


def test_a_clip_shorter_than_a_window_is_filled_up_with_silence(tmp_path):
    write(tmp_path / "a.wav", tone(100))
    heard = reads(open_samples(tmp_path, one("batch", 400)))
    assert heard[:100] == pytest.approx(tone(100), abs=2 / 32768)
    assert not heard[100:].any()
    assert len(heard) == 400


def test_rate_and_length_are_fed_where_the_model_takes_them(tmp_path):
    write(tmp_path / "a.wav", tone(100))
    wave_and = [TensorSpec("audio", "float32", (1, 160)), TensorSpec("sr", "int64", ())]
    run = open_samples(tmp_path, signature(*wave_and)).source.read(0)
    assert run["audio"].shape == (1, 160)
    assert (run["sr"].shape, run["sr"].dtype, int(run["sr"])) == ((), np.int64, 16000)
    lengths = TensorSpec("lengths", "int64", ("batch",))
    sample = open_samples(tmp_path, signature(TensorSpec("audio", "float32", ("batch", 160)), lengths)).source.read(0)
    assert int(sample["lengths"]) == 100


def test_flac_and_ogg_are_read_too(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for name in ("a.flac", "b.ogg"):
        soundfile.write(tmp_path / name, tone(4000), 16000)
    samples = open_samples(tmp_path, WAVES)
    assert reads(samples) == pytest.approx(tone(4000), abs=2 / 32768)
    assert reads(samples, 1).shape == (4000,)


@pytest.mark.parametrize(
    "model",
    [one("batch", 80, "time"), one("batch", 3, 8, 8), one("batch", 16, dtype="int64")],
    ids=["spectrum", "image", "integers"],
)
def test_a_model_of_something_else_is_refused(tmp_path, model):
    write(tmp_path / "a.wav", tone(100))
    with pytest.raises(DataError, match=r"ONX203: the model does not take a waveform.*must be computed as in training"):
        open_samples(tmp_path, model)


def test_a_window_beside_the_models_own_is_refused(tmp_path):
    write(tmp_path / "a.wav", tone(100))
    with pytest.raises(UsageError, match="ONX109: the model fixes the window"):
        open_samples(tmp_path, one("batch", 160), options=ReadOptions(window=80))


def test_other_inputs_point_to_the_command_that_makes_states(tmp_path):
    write(tmp_path / "a.wav", tone(100))
    state = TensorSpec("state", "float32", (2, "batch", 8))
    with pytest.raises(DataError, match=r"ONX202.*`onnxopt data` makes them"):
        open_samples(tmp_path, signature(TensorSpec("audio", "float32", ("batch", 160)), state))


def test_what_is_no_sound_is_refused(tmp_path):
    whole = tmp_path / "whole"
    write(whole / "a.wav", tone(1000))
    content = (whole / "a.wav").read_bytes()
    sounds = {
        "other": b"FORM" + content[4:],
        "avi": content[:8] + b"AVI " + content[12:],
        "text": b"hello",
        "none": b"",
        "empty": content[:40] + bytes(4),
    }
    for name, data in sounds.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_bytes(data)
        with pytest.raises(DataError, match=r"ONX201.*a\.wav"):
            open_samples(tmp_path / name, WAVES)


def test_a_file_cut_after_it_was_opened_is_damaged(tmp_path):
    write(tmp_path / "a.wav", tone(100000))
    samples = open_samples(tmp_path, WAVES)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:2000])
    with pytest.raises(DataError, match=r"ONX201.*it ends after"):
        samples.source.read(0)


def test_too_long_a_file_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxopt.samples.audio.files.MOST_FRAMES", 999)
    write(tmp_path / "a.wav", tone(1000))
    with pytest.raises(DataError, match=r"ONX201: the sound is empty or too long.*1000 frames; 1 to 999"):
        open_samples(tmp_path, WAVES)


def test_a_pipe_never_blocks_and_links_do_not_lead_out(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    os.mkfifo(inside / "a.wav")
    with pytest.raises(DataError, match=r"ONX201.*a pipe"):
        open_samples(inside, WAVES)
    (inside / "a.wav").unlink()
    write(tmp_path / "out.wav", tone(100))
    (inside / "a.wav").symlink_to(tmp_path / "out.wav")
    with pytest.raises(DataError, match="ONX201: a file lies outside the folder"):
        open_samples(inside, WAVES)


def test_a_list_of_no_sounds_is_no_data(tmp_path):
    write(tmp_path / "a.wav", tone(100))
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(DataError, match=r"ONX20[56]"):
        open_samples(tmp_path, WAVES)


@pytest.mark.parametrize("options", [{"sample_rate": 0}, {"window": 0}, {"sample_rate": 10**7}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError, match=f"ONX101: the value of {next(iter(options))} is invalid"):
        ReadOptions(**options)
