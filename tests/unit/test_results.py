"""No figure in the tables of README.md, benchmarks/README.md or docs/experiments.md is typed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

import experiments_table
import results_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("file", results_table.TABLES)
def test_a_readme_says_what_the_records_say(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert results_table.BEGIN in text
    assert results_table.END in text
    assert text == results_table.with_tables(file), "run: make results"


def test_the_experiments_say_what_the_records_say() -> None:
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    assert text == experiments_table.document(), "run: make results"
