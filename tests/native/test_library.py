"""How the library is found, built, kept and refused; what is wrong with it is one line and costs nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mixerlens import native
from mixerlens.native import build, cache
from mixerlens.scans import selective_scan

library_module = sys.modules["mixerlens.native.library"]
SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def compiler():
    """The real compiler; skipped where there is none."""
    try:
        return build.compiler().command[0]
    except build.Unavailable as error:
        pytest.skip(f"no C path: {error}")


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Makes $CC a shell script."""

    def make(text):
        path = tmp_path / "mycc"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CC", str(path))
        return path

    return make


def again(monkeypatch):
    monkeypatch.setattr(library_module, "_found", None)
    return native.status()


def scan():
    """A scan's output; whichever path computed it, it is right."""
    x, dt, A = torch.ones(1, 2, 1), torch.ones(1, 2, 1), -torch.ones(1, 1)
    y, _ = selective_scan(x, dt, A, torch.ones(1, 2, 1), torch.ones(1, 2, 1))
    torch.testing.assert_close(y.flatten(), torch.tensor([1, 1 + 0.36787944]))


def test_built_once_and_found_again(fresh, compiler, monkeypatch):
    first = native.status()
    assert (first.active, first.origin, first.note) == (True, "built", None)
    second = again(monkeypatch)
    assert (second.origin, second.library) == ("cache", first.library)
    assert {path.name for path in (fresh / "mixerlens" / "native").iterdir()} == {
        first.library, first.library.replace(".so", ".sha256")
    }  # fmt: skip
    scan()


def test_switched_off_at_any_time(fresh, compiler, monkeypatch):
    assert native.library() is not None
    monkeypatch.setenv(native.SWITCH, "0")
    assert native.library() is None
    assert native.status() == native.Status(False, "MIXERLENS_NATIVE=0")
    scan()
    monkeypatch.setenv(native.SWITCH, " False")
    assert native.library() is None
    assert native.status() == native.Status(False, "MIXERLENS_NATIVE=False")
    monkeypatch.delenv(native.SWITCH)
    with native.without():
        assert native.library() is None
        scan()
    assert native.library() is not None


def test_no_compiler(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native.status() == native.Status(False, "no C compiler: neither $CC nor cc, gcc or clang is there")
    assert not fresh.exists()
    scan()


def test_a_failing_build_is_remembered_with_its_first_error(fresh, script, tmp_path):
    script(f"echo x >> {tmp_path}/calls; echo 'note: hm' >&2; echo 'k.c:1: error: no such thing' >&2; exit 1")
    for _ in range(3):
        assert native.status().reason == "build failed: k.c:1: error: no such thing"
        scan()
    assert (tmp_path / "calls").read_text() == "x\n"
    assert not list((fresh / "mixerlens" / "native").iterdir())


def test_a_compiler_that_says_nothing_or_hangs(fresh, script, monkeypatch):
    script("exit 7")
    assert native.status().reason == "build failed: exit code 7"
    monkeypatch.setattr(build, "SECONDS", 0.2)
    path = script("sleep 20")
    assert again(monkeypatch).reason == f"build failed: {path} took more than 0.2 s"


def test_a_compiler_that_writes_no_library(fresh, script):
    script("exit 0")
    assert not native.status().active
    assert "cannot be loaded" in str(native.status().reason)


def test_cc_comes_first_with_its_arguments(fresh, compiler, monkeypatch):
    monkeypatch.setenv("CC", f"{compiler} -DNOBODY_READS_THIS -ffast-math")
    status = native.status()  # what an environment adds does not make the arithmetic another one
    assert status.active and status.compiler == f"{compiler} -DNOBODY_READS_THIS -ffast-math"
    named = status.library
    monkeypatch.setenv("CC", "'unfinished")
    assert again(monkeypatch).library != named


def test_wrong_arithmetic_is_refused(fresh, script, compiler):
    """The compiler is given another polynomial."""
    script(
        'set -- "$@" end\n'
        'while [ "$1" != end ]; do a=$1; shift\n'
        'case $a in *kernels.c) sed s/0x1.62e4/0x1.62f4/ "$a" > "$0.c"; a=$0.c;; esac\n'
        'set -- "$@" "$a"; done; shift\n'
        f'exec {compiler} "$@"'
    )
    assert "the compiler made 2^0.5 be 1.414" in str(native.status().reason)
    scan()


def test_another_source_and_a_broken_file_are_built_again(fresh, compiler, monkeypatch):
    name = native.status().library
    path = fresh / "mixerlens" / "native" / str(name)
    whole = path.read_bytes()
    for wrong in (whole[: len(whole) // 2], whole[:-1] + b"x", b""):
        shutil.copy(path, path.with_suffix(".old"))
        os.replace(path.with_suffix(".old"), path)  # not the file that is loaded
        path.write_bytes(wrong)
        assert again(monkeypatch).origin == "built"
        assert path.read_bytes() == whole


def test_a_prebuilt_library_of_this_source_is_used_and_any_other_is_not(fresh, compiler, monkeypatch, tmp_path):
    prebuilt = tmp_path / "prebuilt.so"
    monkeypatch.setattr(library_module, "PREBUILT", prebuilt)
    build.compiler().build(build.levels(), prebuilt)
    assert again(monkeypatch).origin == "prebuilt" and not fresh.exists()
    other = tmp_path / "other.so"
    with monkeypatch.context() as patched:
        patched.setattr(build, "source_hash", lambda: "another")
        build.compiler().build(build.levels(), other)
    monkeypatch.setattr(library_module, "PREBUILT", other)
    assert again(monkeypatch).origin == "built"


@pytest.mark.parametrize("how", ["file", "link", "writable", "parent", "file_of_others"])
def test_a_cache_that_cannot_be_trusted_is_not_used(fresh, compiler, monkeypatch, how):
    place = fresh / "mixerlens" / "native"
    if how == "file":  # as a disk that cannot be written
        fresh.write_text("")
    elif how == "link":
        (fresh / "mixerlens").mkdir(parents=True)
        (fresh / "elsewhere").mkdir()
        place.symlink_to(fresh / "elsewhere")
    else:
        name = native.status().library
        target = {"writable": place, "parent": fresh, "file_of_others": place / str(name)}[how]
        target.chmod(0o777)
    status = again(monkeypatch)
    assert (status.active, status.origin) == (True, "temporary")
    assert str(status.note).startswith("cache ")
    found = native.library()
    assert found is not None and not found.path.exists()
    scan()


def test_a_cache_of_another_user_is_not_used(fresh, compiler, monkeypatch):
    native.status()
    monkeypatch.setattr(cache.os, "geteuid", lambda: os.getuid() + 1)
    assert again(monkeypatch).origin == "temporary"


def test_processes_that_build_at_once_agree(fresh, compiler):
    code = "from mixerlens import native; s = native.status(); print(s.active, s.library)"
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "XDG_CACHE_HOME": str(fresh)}
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate()[0] for process in both}
    assert len(said) == 1 and said.pop().startswith("True kernels-")
    assert len(list((fresh / "mixerlens" / "native").iterdir())) == 2


def test_import_looks_for_nothing(fresh, script, tmp_path):
    script(f"touch {tmp_path}/called")
    code = "import mixerlens, mixerlens.scans, sys; sys.exit('mixerlens.native.check' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not fresh.exists() and not (tmp_path / "called").exists()


def test_what_the_library_cannot_read_takes_the_torch_path(fresh, compiler):
    class Own(torch.Tensor):
        pass

    plain = torch.ones(2)
    assert native.takes(plain, torch.nn.Parameter(plain)) is not None
    for other in (plain.half(), plain.to("meta"), plain.to_sparse(), plain.as_subclass(Own)):
        assert native.takes(plain, other) is None
