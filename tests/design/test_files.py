"""Specifications as files: what is written is read again, and what no specification is gives one line."""

from __future__ import annotations

import builtins
import os
import sys

import pytest

from mixerlens.design import PRESETS, MixerSpec, preset
from mixerlens.design.files import LARGEST, from_text, read, read_named, to_text, write
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.files import WriteError


@pytest.mark.parametrize("name", PRESETS)
def test_every_family_is_written_and_read_again(name):
    spec = preset(name)
    for form in ("yaml", "toml", "json"):
        assert from_text(to_text(spec, form), form) == spec


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".toml", ".json", ".YAML"])
def test_a_file_by_its_name(tmp_path, suffix):
    spec = preset("mamba3", heads=2)
    assert read(write(spec, tmp_path / f"new{suffix}")) == spec


@pytest.mark.parametrize("name", ["1e3", "2001-01-01", "010", "0x1f", "null", "off", "=", "<<", "1:30", "- a", "é # x"])
def test_every_name_is_read_as_it_was_written(name):
    for form in ("yaml", "toml", "json"):
        assert from_text(to_text(MixerSpec(name=name), form), form).name == name


def test_numbers_without_a_point_are_numbers():
    assert from_text("name: x\nquery: {scale: 1e-3}").query.scale == 1e-3
    assert from_text("name: x\nquery: {scale: 2}").query.scale == 2.0


BAD = {
    "yaml": {
        "name: x\nheads: 3\nheads: 4": "line 3: 'heads' comes twice, first in line 2",
        "name: x\nevolution: {kind: delta, decay: rate, decay: none}": "line 2: 'decay' comes twice",
        "a: &a [1, 1]\nb: *a": "line 1: anchors and aliases are not read",
        "name: *x": "line 1: anchors and aliases are not read",
        "name: x\n<<: {heads: 2}": "specification: '<<' is unknown",
        "!!python/object/apply:os.system [ls]": "line 1: tags are not read: drop '!!python/object/apply:os.system'",
        "[" * 5000: "nested deeper than 16 levels",
        "name: x\nsignals: " + "{a: " * 40 + "1" + "}" * 40: "nested deeper than 16 levels",
        "": "there is nothing in it: give at least name",
        "- name\n- x": "must be a mapping",
        "---\nname: x\n---\nname: y": "line 3: no YAML: but found another document",
        "name: x\nheads: " + "9" * 5000: "too many digits",
        "name: x\n\theads: 3": r"line 2: no YAML: found character '.t'",
        "name: 'x": "line 1",
        "1: 2": "line 1: 1 is no name",
        "? [a, b]\n: 3": "line 1: .* is no name",
        "name: x\nheads: off": "heads: false must be a whole number",
        "name: x\nheads: 2001-13-45": "heads: '2001-13-45' must be a whole number",
        "name: x\nheads: 1:30": "heads: '1:30' must be a whole number",
        "name: x\nheads: 010": "heads: '010' must be a whole number",
        "name: x\nheads: !!binary aGVsbG8=": "line 2: tags are not read: drop '!!binary'",
        "name: x\nheads: !!set {a, b}": "line 2: tags are not read: drop '!!set'",
        "name: x\nskip: !!bool maybe": "line 2: tags are not read: drop '!!bool'",
        "name: x\nheads: !!timestamp soon": "line 2: tags are not read: drop '!!timestamp'",
        "name: !own x": "line 1: tags are not read: drop '!own'",
        "name: x\nheads: 0x" + "f" * 6000: "heads: '0xf.* must be a whole number",
        "name: x\nquery: {scale: " + "1" * 400 + "}": "query.scale: a number of more than 60 digits must be a finite",
        "name: ": "name: null must be a printable text of 1 to 1000 characters",
        "name: ''": "name: '' must be a printable text of 1 to 1000 characters",
        "name: '  '": "name: '  ' must be a printable text",
        "name: x\nheads:": "heads: null must be a whole number from 1 to",
        "name: " + "long" * 300: "name: 'long.*[.]{3} must be a printable text",
        "# only this": "there is nothing in it: give at least name",
        " \n\n": "there is nothing in it: give at least name",
        "name: x\nquery: {scale: .inf}": "query.scale: inf must be a finite number",
        "name: \x00": "character 7: no YAML: special characters are not allowed",
    },
    "toml": {
        "name = 'x'\nname = 'y'": "no TOML: Cannot overwrite a value",
        "name = 'x'\nheads = nan": "heads: nan must be a whole number",
        "name = ": "no TOML: Invalid value",
        "name = 'x'\nheads = 0x" + "f" * 6000: "heads: a number of more than 60 digits must be a whole number",
        "": "there is nothing in it: give at least name",
        "a = " + "[" * 5000: "nested deeper|too deeply",
    },
    "json": {
        '{"name": "x", "name": "y"}': "'name' comes twice",
        '{"name": "x", "query": {"scale": NaN}}': "NaN is no number",
        '{"name": }': "line 1, column 10: no JSON: Expecting value",
        "": "there is nothing in it: give at least name",
        '{"name": "x", "query": {"scale": 1e400}}': "query.scale: inf must be a finite number",
        '{"name": "x", "query": {"scale": ' + "1" * 400 + "}}": "query.scale: a number of more than 60 digits must be",
        "[" * 100000: "nested deeper",
        '{"name": "x", "heads": ' + "9" * 5000 + "}": "too many digits",
    },
}


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in BAD.items() for text in texts])
def test_a_bad_file_is_one_line(form, text):
    with pytest.raises(InputError, match=BAD[form][text]) as caught:
        from_text(text, form)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_the_file_is_named(tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text("name: x\nhedas: 3\n")
    with pytest.raises(InputError, match=r"new\.yaml: specification: 'hedas' is unknown; did you mean heads"):
        read(path)
    path.write_bytes(b"name: \xff")
    with pytest.raises(InputError, match=r"new\.yaml: byte 6 is no UTF-8"):
        read(path)
    path.write_bytes(b"#" * (LARGEST + 1))
    with pytest.raises(InputError, match="more than 262144 bytes"):
        read(path)
    with pytest.raises(InputError, match=r"new\.txt: \.txt is no format"):
        read(tmp_path / "new.txt")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.yaml")


def test_what_is_no_file_is_said_and_not_waited_for(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, told in (("folder.yaml", "a folder is no specification"), ("pipe.yaml", "a device or a pipe")):
        with pytest.raises(InputError, match=f"{name}: {told}.*give a .yaml"):
            read(tmp_path / name)
    with pytest.raises(OSError, match="symbolic links"):
        read(tmp_path / "loop.yaml")


def test_a_name_is_a_file_or_a_family(tmp_path):
    (tmp_path / "mine.json").write_text('{"name": "mine"}')
    assert read_named(str(tmp_path / "mine.json")).name == "mine" and read_named("mamba2") == preset("mamba2")
    with pytest.raises(InputError, match=r"a\.txt: a specification is a \.yaml"):
        read_named("a.txt")
    with pytest.raises(InputError, match="a folder is no specification"):
        read_named(str(tmp_path))


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(preset("mamba"), tmp_path / "new.yaml")
    old = path.read_text()

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(WriteError, match="No space left"):
        write(preset("mamba2"), path)
    monkeypatch.undo()
    assert path.read_text() == old and list(tmp_path.iterdir()) == [path]


def test_without_yaml_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def none(name, *arguments, **named):
        if name == "yaml":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.delitem(sys.modules, "yaml", raising=False)
    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(UnsupportedError, match=r"pip install 'mixerlens\[design\]'"):
        from_text("name: x")
    assert from_text('name = "x"', "toml") == MixerSpec(name="x")


def test_a_null_is_no_toml():
    spec = preset("mamba2", signals={"step": {"init": None}})
    assert from_text(to_text(spec, "yaml")) == spec
    with pytest.raises(InputError, match=r"signals\.step\.init: TOML has no null"):
        to_text(spec, "toml")
    with pytest.raises(InputError, match="format: 'xml' must be one of yaml, toml, json"):
        to_text(spec, "xml")
