"""A library with every instruction set, built once; skipped, with the reason, where no compiler is found."""

from __future__ import annotations

import sys

import pytest

from mixerlens import native
from mixerlens.native import build, scan
from mixerlens.native.library import load

library_module = sys.modules["mixerlens.native.library"]  # the package's `library` is the function

LEVELS = 3


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    path = tmp_path_factory.mktemp("native") / "kernels.so"
    try:
        build.compiler().build(7, path)
    except build.Unavailable as error:
        pytest.skip(f"no C path: {error}")
    return path


@pytest.fixture(params=range(LEVELS))
def library(request, everything, monkeypatch):
    """The library with one instruction set after the other, as what the scans use."""
    try:
        found = load(everything, "built", level=request.param)
    except build.Unavailable as error:
        pytest.skip(str(error))
    monkeypatch.setattr(scan, "library", lambda: found)
    return found


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """As in a new process whose cache, below the folder that is returned, is empty."""
    monkeypatch.setattr(library_module, "_found", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "FLAGS", tuple({"-O2": "-O0"}.get(flag, flag) for flag in build.FLAGS))  # built sooner
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv(native.SWITCH, raising=False)
    return tmp_path / "cache"
