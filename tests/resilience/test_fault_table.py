"""Fault table: every row has a test."""

from __future__ import annotations

from tests.support.fault_rows import collected_rows, rows


def test_every_row_of_the_fault_table_has_its_tests():
    """Each mark names a row, and each row that can occur now has a marked test."""
    table = {row.id: row for row in rows()}
    tested = collected_rows()

    assert tested.keys() - table.keys() == set()
    assert {row for row in table if table[row].needs == "now"} - tested.keys() == set()
