"""No figure in README.md or docs/experiments.md is typed by hand: both say what the records say."""

from __future__ import annotations

from pathlib import Path

import experiments_table
import results_table

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_says_what_the_records_say() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == results_table.with_tables(text), "run: make results"


def test_the_experiments_say_what_the_records_say() -> None:
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    assert text == experiments_table.document(), "run: make results"
