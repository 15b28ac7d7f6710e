"""If these break, one file that kills or holds its reader stops or spoils a whole run."""

import ctypes
import os

import pytest

from data_pipelines.build.ocr.workers import survive


def work(number: int) -> int:
    if number in (2, 3, 7):
        os._exit(1)  # as a crash in a C library: nothing is raised
    if number == 50:
        ctypes.PyDLL(None).sleep(60)  # a C library that hangs with the interpreter in its hands
    if number == 100:
        raise ValueError("a mistake, not a crash")
    return number * number


def test_deaths_cost_one_item_each():
    found = list(survive(work, list(range(9)), processes=2, seconds=20.0))
    assert found == [0, 1, None, None, 16, 25, 36, None, 64]


def test_errors_are_not_taken_for_deaths():
    with pytest.raises(ValueError, match="a mistake"):
        list(survive(work, [1, 100], processes=2, seconds=20.0))
    assert list(survive(work, [], processes=2, seconds=20.0)) == []


def test_hangs_cost_one_item_each():
    assert list(survive(work, [1, 50, 4], processes=2, seconds=1.0)) == [1, None, 16]
