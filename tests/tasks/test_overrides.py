from pathlib import Path

import pytest

from onnxopt.tasks.overrides import overrides_text, read_overrides


@pytest.mark.parametrize("name", ["conv_1", 'with "quotes"', "back\\slash", "MobileNet/conv:0", "tab\there", "größe"])
def test_every_name_survives(name: str, tmp_path: Path) -> None:
    file = tmp_path / "keep.toml"
    file.write_text(overrides_text({name: "19.6 dB", "other": "-"}), encoding="utf-8")
    assert read_overrides(file) == (name, "other")


def test_nothing_to_keep_is_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "keep.toml"
    file.write_text(overrides_text({}))
    assert read_overrides(file) == ()
