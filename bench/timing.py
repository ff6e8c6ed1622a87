"""Interleaved timings: a round runs every contender once, fast ones more often; medians and quartiles over rounds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

ROUNDS = 5  # at least; more while there is time
SLOW, SLOW_ROUNDS = 2.0, 3  # what takes longer than so many seconds a call gets so many rounds and no more
SAMPLE = 0.1  # seconds of one contender in one round, in as many calls as fit


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    budget: float,
    rounds: int = ROUNDS,
    sample: float | None = None,
    once: Collection[str] = (),
    clock: Callable[[], float] = time.perf_counter,
    turn: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
) -> dict[str, list[float]]:
    """Seconds of every call, round-robin, until every contender has its rounds and ``budget`` seconds are spent.

    once: contenders that are called a single time. turn: entered for a contender's calls of one round, untimed.
    """
    sample = SAMPLE if sample is None else sample
    samples: dict[str, list[float]] = {name: [] for name in calls}
    start, done, wanting = clock(), 0, True
    while wanting and (done < rounds or (clock() - start < budget and done < 100)):
        wanting = False
        for name, call in calls.items():
            few = 1 if name in once else SLOW_ROUNDS if min(samples[name], default=0.0) > SLOW else math.inf
            if done >= few:
                continue
            wanting, spent = True, 0.0
            with turn(name):
                while True:
                    before = clock()
                    call()
                    spent += (took := clock() - before)
                    samples[name].append(took)
                    if spent + took > sample or name in once:
                        break
        done += 1
    return samples


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, smallest and largest of the samples, in seconds, and how many there are."""
    if len(samples) == 1:
        low = high = samples[0]
    else:
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return {
        "median": statistics.median(samples), "low": low, "high": high,
        "min": min(samples), "max": max(samples), "count": len(samples),
    }  # fmt: skip


def exponent(lengths: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log time on log length, by least squares."""
    return statistics.linear_regression([math.log(n) for n in lengths], [math.log(s) for s in seconds]).slope


def last_slope(lengths: Sequence[float], seconds: Sequence[float]) -> float:
    """The same slope between the two longest lengths alone: what the fit would hide if it bent."""
    return exponent(lengths[-2:], seconds[-2:])


def extrapolate(lengths: Sequence[float], seconds: Sequence[float], length: float) -> float:
    """Seconds at a length that was not measured: from the longest that was, by the fitted exponent."""
    return seconds[-1] * (length / lengths[-1]) ** exponent(lengths, seconds)
