"""`inspect --spectrum` on the command line."""

import json


def test_every_layer_is_in_the_table_and_in_the_data(cli, resnet):
    shown = cli("inspect", resnet, "--spectrum")
    assert shown.code == 0
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    data = json.loads(cli("inspect", resnet, "--spectrum", "--format", "json").out)
    assert data["layers"]
    assert all(layer["name"] in shown.out for layer in data["layers"])
    assert all(len(layer["ranks"]) == 3 for layer in data["layers"])


def test_times_belong_to_the_spectrum(cli, resnet):
    refused = cli("inspect", resnet, "--measure")
    assert refused.code == 2
    assert "ONX112" in refused.err
