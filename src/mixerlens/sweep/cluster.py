"""The same runs on a Ray cluster: one task a run, retried when its worker dies, stored by the driver alone.

A task gives its result back and writes nothing, so a worker that dies half-way leaves nothing half-way; a result that
came twice would have the same id and be the same row.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InputError, UnsupportedError
from .config import RunConfig
from .engines import ATTEMPTS, Failure, Outcome, Run, Started, attempt

__all__ = ["on_ray"]

KNOCK = 10  # seconds
STORE_BYTES = 80 << 20  # rows are small: little more than the least Ray allows


def on_ray(
    run: Run, configs: Sequence[RunConfig], workers: int | None, address: str | None, begun: Started
) -> Iterator[tuple[RunConfig, Outcome]]:
    """As `engines.start`. address: "local" for a cluster of this machine that ends with the sweep, "auto" for one that
    runs here, or host:port; None for ``RAY_ADDRESS`` where it is set, else "local". workers: runs at a time, all cores
    of the cluster unless told otherwise.

    Raises UnsupportedError without ray or where it does not start, InputError where no cluster answers.
    """
    ray = need_ray()
    return _outcomes(ray, run, configs, workers, address or os.environ.get("RAY_ADDRESS") or "local", begun)


def need_ray() -> Any:
    """The module. Raises UnsupportedError with the extra that brings it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported and when a cluster is started
    try:
        import ray
    except ImportError as error:
        raise UnsupportedError("the engine ray needs ray: pip install 'mixerlens[scale]'") from error
    return ray


def _outcomes(
    ray: Any, run: Run, configs: Sequence[RunConfig], workers: int | None, address: str, begun: Started
) -> Iterator[tuple[RunConfig, Outcome]]:
    if not configs:
        return
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address, workers)
    pending: dict[Any, RunConfig] = {}
    try:
        cores = int(ray.cluster_resources().get("CPU", 0))
        if cores < 1:
            raise InputError(f"the Ray cluster at {address} has no CPU for a run")
        most = workers or cores

        def compute(config: RunConfig) -> Outcome:
            return attempt(run, config)

        task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, retry_exceptions=False)(compute)
        waiting = deque(configs)
        while waiting or pending:
            while waiting and len(pending) < most:
                config = waiting.popleft()
                pending[task.remote(config)] = config
                begun(config)
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=1)  # a second, so that an interrupt is heard
            for reference in ready:
                yield pending.pop(reference), _fetch(ray, reference)
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def _connect(ray: Any, address: str, workers: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address != "local":
        try:
            if address != "auto":
                _answers(address)
            ray.init(address=address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster at {address}: {_first_line(error)}") from error
        return
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # what is imported here is found by the workers
    try:
        cores = workers or os.cpu_count()
        ray.init(address=address, num_cpus=cores, object_store_memory=STORE_BYTES, include_dashboard=False, **quiet)
    except Exception as error:  # bare ones among them, where the machine is too busy to start it in time
        raise UnsupportedError(f"Ray did not start on this machine: {_first_line(error)}") from error
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _answers(address: str) -> None:
    """Ray itself would knock for many minutes. Raises OSError or ValueError where nobody opens."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError("write local, auto or host:port")
    with socket.create_connection((host, int(port)), timeout=KNOCK):
        pass


def _fetch(ray: Any, reference: Any) -> Outcome:
    died = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
    try:
        return ray.get(reference)
    except died as error:
        return Failure(f"its worker died {ATTEMPTS} times: {_first_line(error)}")
    except ray.exceptions.RayError as error:  # what the run needs is not importable there, say
        return Failure(_first_line(error))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
