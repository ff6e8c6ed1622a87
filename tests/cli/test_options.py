"""How option values are read, and what is said about values that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mixerlens.cli import inputs, options, output
from mixerlens.errors import InputError


@pytest.mark.parametrize(
    ("text", "layers"),
    [("0", [0]), ("0,3-5", [0, 3, 4, 5]), (" 2 , 1", [2, 1]), ("4-4", [4]), ("1-3,2-4", [1, 2, 3, 2, 3, 4])],
)
def test_layer_lists(text, layers):
    assert [index for span in options.parse_layers(text) for index in span] == layers


def test_no_layer_list_means_all_layers():
    assert options.parse_layers(None) is None


def test_a_huge_layer_range_costs_nothing():
    assert len(options.parse_layers("0-999999999999")[0]) == 10**12


@pytest.mark.parametrize("text", ["", "a", "1,", "5-3", "-1", "1-", "1-2-3", "1.5", "0x1", "²"])
def test_what_is_no_layer_list_is_named(text):
    with pytest.raises(InputError, match="--layers") as caught:
        options.parse_layers(text)
    assert repr(text) in str(caught.value) and "\n" not in str(caught.value)


def test_checks():
    assert options.parse_checks(None) == ("operator", "step", "chunk", "padding")
    assert options.parse_checks("chunk, step") == ("chunk", "step")
    with pytest.raises(InputError, match="'stepp' is no check; choose from operator, step, chunk, padding"):
        options.parse_checks("step,stepp")


def test_json_has_no_nan():
    text = output.to_json_text({"a": [1.5, float("nan")], "b": (float("-inf"), {"c": float("inf")}), "d": "é"})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [1.5, None], "b": [None, {"c": None}], "d": "é"}


def test_nothing_a_terminal_would_act_on_is_printed():
    assert output.plain("\x1b[31mred\r\n\u202etxt") == "\\x1b[31mred\\r\\n\\u202etxt"
    assert output.plain("größe ✓") == "größe ✓"


def test_arrays_are_read_from_both_numpy_formats(tmp_path):
    array = np.arange(6.0).reshape(1, 3, 2)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", anything=array)
    np.savez(tmp_path / "two.npz", inputs=array, labels=np.arange(3))
    for name in ("a.npy", "one.npz", "two.npz"):
        assert np.array_equal(inputs.read_file(tmp_path / name), array)


def test_pickled_arrays_are_refused(tmp_path):
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    np.save(tmp_path / "evil.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not a readable array file"):
        inputs.read_file(tmp_path / "evil.npy")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("broken.npy", b"\x93NUMPY\x01", "not a readable array file"),
        ("broken.npz", b"PK\x03\x04", "not a readable array file"),
        ("empty.npy", b"", "not a readable array file"),
        ("binary.txt", b"abc\xff\xfe", "UTF-8 text .byte 3."),
    ],
)
def test_broken_input_files_are_named(name, content, complaint, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        inputs.read_file(tmp_path / name)


def test_several_arrays_without_a_name_are_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(InputError, match="holds 2 arrays"):
        inputs.read_file(tmp_path / "two.npz")


def test_a_missing_input_file_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        inputs.read_file(tmp_path / "nowhere.txt")
