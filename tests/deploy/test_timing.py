from __future__ import annotations

import time

import pytest
import torch

from mirrormask.deploy.timing import Timings, interleave, machine, pinned_threads
from mirrormask.errors import ArgumentError


def test_ratios_are_medians_of_rounds_not_of_times():
    timings = Timings(
        milliseconds={
            "slow": (2.0, 20.0, 2.0, 20.0, 2.0, 20.0, 2.0),
            "fast": (1.0, 10.0, 1.0, 10.0, 1.0, 10.0, 1.0),
        }
    )
    ratio = timings.speedup("fast", over="slow")
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    assert timings.speedup("slow", over="fast").median == 0.5


def test_contenders_take_turns_in_a_rotating_order():
    order = []
    interleave(
        {name: lambda name=name: (order.append(name), time.sleep(0.001)) for name in "abc"},
        rounds=7,
        block_ms=0.1,
    )
    measured = order[-21:]
    assert measured[:9] == list("abcbcacab")


def test_sleeping_twice_as_long_is_twice_as_slow():
    timings = interleave({"a": lambda: time.sleep(0.002), "b": lambda: time.sleep(0.004)}, rounds=9)
    assert 1.5 < timings.speedup("a", over="b").median < 2.5


@pytest.mark.parametrize(("settle_ms", "cold"), [(0.0, True), (0.1, False), (5.0, False)])
def test_what_settles_does_not_feel_who_ran_before(settle_ms, cold):
    last = []

    def run(name):
        time.sleep(0.0002 if last[-1:] == [name] else 0.02)
        last.append(name)

    runs = {name: lambda name=name: run(name) for name in "ab"}
    timings = interleave(runs, rounds=7, block_ms=0.1, settle_ms=settle_ms)
    assert all((timings.median(name) > 10) == cold for name in "ab")


def test_long_calls_go_without_settling():
    calls = []
    interleave({"a": lambda: (calls.append(0), time.sleep(0.101))}, rounds=7, settle_ms=500.0)
    assert len(calls) == 4 + 7


def test_threads_are_pinned_and_given_back():
    before = torch.get_num_threads()
    with pinned_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    with pytest.raises(ArgumentError, match="threads=0"), pinned_threads(0):
        pass


def test_impossible_runs_are_refused():
    with pytest.raises(ArgumentError, match="0 contenders"):
        interleave({})
    with pytest.raises(ArgumentError, match="3 rounds"):
        interleave({"a": list}, rounds=3)


def test_the_machine_is_described():
    assert {"cpu", "cores", "torch", "vectors"} <= set(machine())
