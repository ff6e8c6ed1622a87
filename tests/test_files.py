"""A file is the old one or the complete new one, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixerlens import files
from mixerlens.errors import InputError


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "out.json"
    target.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            files.write_whole(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"] and target.read_text() == "old"
    files.write_whole(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"] and target.read_text() == "new"


def test_writing_through_a_link_keeps_the_link(tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    files.write_whole(link, "new")
    assert link.is_symlink() and real.read_text() == "new"


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("no/such/folder/x.html", "does not exist; create it"), (".", "is a folder"), ("/dev/null", "is a device")],
)
def test_outputs_that_cannot_be_written_are_refused_beforehand(path, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=complaint):
        files.check_writable(Path(path))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_writer_that_breaks_off_leaves_the_old_file(error, tmp_path):
    target = tmp_path / "weights.bin"
    target.write_bytes(b"old")

    def half(path: Path) -> None:
        path.write_bytes(b"ne")
        raise error

    with pytest.raises(type(error)):
        files.write_whole(target, half)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.bin"] and target.read_bytes() == b"old"
    files.write_whole(target, lambda path: path.write_bytes(b"new"))
    assert target.read_bytes() == b"new"
