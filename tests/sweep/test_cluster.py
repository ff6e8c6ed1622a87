"""A Ray cluster of two workers on this machine: nothing lost, nothing counted twice, when one is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.sweep import Sweep
from sweep.doubles import configs, quick, result


@pytest.fixture
def own(monkeypatch):
    """No cluster of somebody else's, no statistics; what a test started ends with it."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_nothing_counts_twice(own, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    runs = configs(5, options={"marks": str(marks)})

    def run(one):
        """The first time a run of seed 1 is half done its process is killed; that of seed 3 always fails."""
        tries = Path(one.options["marks"])
        number = len(list(tries.glob(f"{one.id}-*")))
        (tries / f"{one.id}-{number}").write_text(str(os.getpid()))
        time.sleep(0.1)
        if one.seed == 1 and number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if one.seed == 3:
            raise InputError("not this one")
        return result(one)

    found = Sweep(runs, tmp_path / "ray", run=run).run("ray", workers=2)
    tries = {one.seed: sorted(marks.glob(f"{one.id}-*")) for one in runs}
    assert [len(tries[seed]) for seed in range(5)] == [1, 2, 1, 1, 1]
    killed, second = (path.read_text() for path in tries[1])
    assert killed != second
    assert found.computed == 4 and [line.split(": ", 1)[1] for line in found.failures] == ["not this one"]
    expected = Sweep(runs, tmp_path / "here", run=quick).run()
    assert found.rows == [row for row in expected.rows if row["seed"] != 3]
    assert len(list((tmp_path / "ray" / "runs").iterdir())) == 4
    assert not own.is_initialized()
    pids = {int(path.read_text()) for path in marks.iterdir()}
    deadline = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_a_killed_machine_loses_nothing_either(own, tmp_path, monkeypatch):
    """Two workers that are nodes of their own; the one with a run that would never end is killed whole."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    marks = tmp_path / "marks"
    marks.mkdir()
    runs = configs(4, options={"marks": str(marks)})

    def run(one):
        from ray import get_runtime_context

        tries = Path(one.options["marks"])
        number = len(list(tries.glob(f"{one.seed}-*")))
        (tries / f"part-{one.seed}").write_text(get_runtime_context().get_node_id())
        (tries / f"part-{one.seed}").rename(tries / f"{one.seed}-{number}")
        if one.seed == 1 and number == 0:
            time.sleep(3600)
        return result(one)

    small = {"object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    try:
        nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]

        def kill() -> None:
            while not (marks / "1-0").exists():
                time.sleep(0.1)
            place = (marks / "1-0").read_text()
            cluster.remove_node(next(node for node in nodes if node.node_id == place), allow_graceful=False)

        threading.Thread(target=kill, daemon=True).start()
        found = Sweep(runs, tmp_path / "ray", run=run).run("ray", address=cluster.address)
    finally:
        own.shutdown()
        cluster.shutdown()
    first, second = ((marks / f"1-{number}").read_text() for number in (0, 1))
    assert first != second and len(list(marks.iterdir())) == 5
    assert found.rows == Sweep(runs, tmp_path / "here", run=quick).run().rows
    assert found.computed == 4 and not found.failures


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("address", "said"), [("127.0.0.1:1", "refused"), ("head", "write local, auto or host:port"), ("auto", "")]
)
def test_an_address_where_no_cluster_answers_is_refused_soon(own, tmp_path, address, said):
    begun = time.monotonic()
    with pytest.raises(InputError, match=f"no Ray cluster at {address}: .*{said}"):
        Sweep(configs(1), tmp_path, run=quick).run("ray", address=address)
    assert time.monotonic() - begun < 30 and not own.is_initialized()


def test_a_cluster_that_does_not_start_is_one_line(own, tmp_path, monkeypatch):
    def busy(**options):
        raise Exception("The current node timed out during startup.\nIt may be overloaded.")  # as ray itself does

    monkeypatch.setattr(own, "init", busy)
    with pytest.raises(UnsupportedError, match=r"^Ray did not start on this machine: The current node .*up\.$"):
        Sweep(configs(1), tmp_path, run=quick).run("ray", workers=2)
