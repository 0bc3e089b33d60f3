"""A small fixed slice of the fuzzing; `nox -s fuzz` runs all of it."""

from __future__ import annotations

import pytest

from tests.long.fuzz.subject import SEED, Broken, each, shrunk
from tests.long.fuzz.subjects import SUBJECTS

_ROWS = {"ids": ("X8", "X9"), "headers": ("X8",), "cleaner": ("X19",)}


def _with_rows(name):
    marks = [pytest.mark.fault(*_ROWS[name])] if name in _ROWS else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [_with_rows(name) for name in SUBJECTS])
def test_no_case_of_the_slice_breaks_a_promise(name):
    """What leaves is sane or an error of ours, whatever comes in; and cases are of all kinds."""
    subject = SUBJECTS[name]

    report = subject.run(SEED, range(subject.few))

    assert [str(broken) for broken in report.broken] == []
    assert subject.kinds <= report.counts.keys()


def test_a_broken_promise_is_shown_small_and_can_be_called_again():
    """Case, reason and the shortest call that breaks in the same way are told."""

    def check_no_pair(text: str, limit: int) -> str:
        assert text.count("x") < limit, "a pair"
        return "fine"

    def made(rand, index):
        return ("abc" * index + "x" * (index % 4) + "def" * index, 2)

    report = each("pairs", made, check_no_pair)(SEED, range(3))

    [broken] = report.broken
    assert isinstance(broken, Broken)
    assert broken.call == "check_no_pair(*('xx', 2))"
    assert str(broken).startswith("pairs #2: AssertionError: a pair")
    assert report.counts == {"fine": 2, "BROKEN": 1}


def test_shrinking_keeps_what_breaks():
    """Bytes are cut out for as long as the rest still breaks."""
    assert shrunk(b"0123456789" * 30 + b"ab", lambda less: b"a" in less and b"3" in less) == b"3a"
