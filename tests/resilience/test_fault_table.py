"""The table of faults and the tests that prove it are one thing."""

from __future__ import annotations

from tests.support.fault_rows import collected_rows, rows


def test_every_row_of_the_fault_table_has_its_tests():
    """A row without a test, a test for no row, and a row that waits no more, are named."""
    table = {row.id: row for row in rows()}
    tested = collected_rows()

    assert tested.keys() - table.keys() == set()
    assert {row for row in table if table[row].needs == "now"} - tested.keys() == set()
