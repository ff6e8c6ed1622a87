"""The named sets: found in a folder, missed with the command that brings them, MNIST from its package."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mixerlens.data import SETS, data_folder, load, present
from mixerlens.data.mnist import mnist
from mixerlens.errors import InputError


def test_every_set_that_is_missing_names_its_command(tmp_path):
    for name, source in SETS.items():
        if source.where is None:
            assert present(name, tmp_path)
            continue
        assert not present(name, tmp_path)
        with pytest.raises(InputError) as caught:
            load(name, tmp_path)
        assert ("`make data`" in str(caught.value)) == source.fetched and str(tmp_path) in str(caught.value)


def test_an_unknown_set_is_refused_with_the_names():
    with pytest.raises(InputError, match="'cifar' is no set here; choose from digits"):
        load("cifar")


def test_the_folder_is_the_one_given_or_that_of_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXERLENS_DATA", str(tmp_path))
    assert data_folder() == tmp_path and data_folder(tmp_path / "a") == tmp_path / "a"


def test_scp1_is_read_from_a_local_folder(tmp_path):
    (tmp_path / "SelfRegulationSCP1").mkdir()
    header = "@timeStamps false\n@classLabel true negativity positivity\n@data\n"
    rows = [f"{i},1,{i}:2,{i},3:{('negativity', 'positivity')[i % 2]}\n" for i in range(12)]
    for part, some in (("TRAIN", rows), ("TEST", rows[:4])):
        (tmp_path / "SelfRegulationSCP1" / f"SelfRegulationSCP1_{part}.ts").write_text(header + "".join(some))
    found = load("SelfRegulationSCP1", tmp_path)
    assert (found.time, found.channels, found.classes) == (3, 2, ("negativity", "positivity"))
    assert found.test.labels.tolist() == [0, 1, 0, 1]


def test_the_digits_are_a_set_like_the_others():
    found = load("digits")
    assert (found.time, found.channels, len(found.classes)) == (64, 1, 10)
    assert found.describe()["sizes"] == {"train": 1257, "validation": 180, "test": 360}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """3,010 images: all pixels of number i of digit d are (d + 10 i) / 4000, except the first, which is one."""
    root = tmp_path_factory.mktemp("mnist")
    folder = root / "src" / "digits"
    folder.mkdir(parents=True)
    for digit in range(10):
        pixels = np.repeat((digit + 10 * np.arange(301)) / 4000, 784).reshape(-1, 784)
        pixels[:, 0] = 1
        (folder / f"{digit}.json").write_text(json.dumps({"data": pixels.flatten().round(6).tolist()}))
    return root


def test_mnist_holds_every_image_once_with_its_label(package):
    found = mnist(package)
    parts = (found.train, found.validation, found.test)
    assert [len(part) for part in parts] == [10, 1000, 2000] and found.time == 784
    seen = [round(4000 * float(x)) for part in parts for x in part.inputs[:, 5, 0]]
    assert sorted(seen) == list(range(3010))
    labels = [int(label) for part in parts for label in part.labels]
    assert labels == [number % 10 for number in seen]


def test_mnist_by_squares(package):
    found, whole = mnist(package, 14), mnist(package)
    assert found.time == 196 and found.name == "mnist-14"
    plain = whole.test.inputs[7, 1, 0]
    assert float(found.test.inputs[7, 0, 0]) == pytest.approx(float(1 + 3 * plain) / 4, abs=1e-6)
    assert float(found.test.inputs[7, 100, 0]) == pytest.approx(float(plain), abs=1e-6)
    with pytest.raises(InputError, match="side 13"):
        mnist(package, 13)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "must hold 'data'"),
        ('{"data": [0, 2]}', "must hold"),
        ('{"data": "x"}', "must hold"),
    ],
)
def test_a_broken_mnist_file_is_one_line(tmp_path, text, said):
    path = tmp_path / "src" / "digits" / "0.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        mnist(tmp_path)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        mnist(tmp_path)
