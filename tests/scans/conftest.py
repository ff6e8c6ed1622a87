"""The selective scan's tests run on both of its paths: torch, and C where a compiler is found."""

from __future__ import annotations

import pytest

from mixerlens import native


def pytest_generate_tests(metafunc):
    if metafunc.module.__name__.split(".")[-1] == "test_mamba":
        metafunc.fixturenames.append("path")
        metafunc.parametrize("path", ["torch", "C"], indirect=True)


@pytest.fixture
def path(request):
    if request.param == "torch":
        with native.without():
            yield
    else:
        status = native.status()
        if not status.active:
            pytest.skip(f"no C path: {status.reason}")
        yield
