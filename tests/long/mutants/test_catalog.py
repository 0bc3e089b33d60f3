"""The mutants do not rot: each of them can be made of the package as it is."""

from __future__ import annotations

import ast

import pytest

from tests.long.mutants.catalog import MUTANTS, PACKAGE, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_exactly_once(mutant):
    """The text that it replaces is in its file once, and what comes of it is Python."""
    mutated = mutant.applied((ROOT / PACKAGE / mutant.room).read_text("utf-8"))

    ast.parse(mutated)
    assert (ROOT / mutant.first).exists()


def test_there_are_enough_of_them():
    """At least the 25 that were promised, each under a name of its own."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25


def test_a_mutant_that_does_not_apply_says_so():
    """An old text that is gone, or is there twice, is an error and not a mutant without effect."""
    with pytest.raises(ValueError, match="poll after end: the old text is 0 times in _schedule"):
        MUTANTS[0].applied("")
    with pytest.raises(ValueError, match="2 times"):
        MUTANTS[0].applied(2 * MUTANTS[0].old)
