from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.cli import main
from wrn.cli.values import dollars, hours, seconds, share, sizes, whole, writable


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (whole, " 12 ", 12),
        (sizes, "1 8, 64", (1, 8, 64)),
        (seconds, "0", 0.0),
        (hours, "1e-1", 0.1),
        (dollars, "$5", 5.0),
        (share, "1", 1.0),
    ],
)
def test_what_flags_take(read: Callable[[str], Any], text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "texts", "wanted"),
    [
        (whole, ["0", "-1", "1.0", "1e3", "1_000", "٣", "", "9" * 5000], "a whole number from 1 to 999999999"),
        (sizes, ["1 x", "8,0"], "a whole number from 1 to 999999999"),
        (sizes, ["", " , "], "whole numbers above 0, such as"),
        (seconds, ["-1", "nan", "inf", "2s"], "seconds, 0 or more"),
        (hours, ["0", "-0.0", "nan", "2h", "1e400"], "hours above 0, such as 1.5"),
        (dollars, ["0", "$", "5 EUR", "-5"], "US dollars above 0, such as 5 or 1.41"),
        (share, ["40", "40%", "0", "nan"], "a fraction above 0 and at most 1, such as 0.4 for 40%"),
    ],
)
def test_what_they_refuse(read: Callable[[str], Any], texts: list[str], wanted: str) -> None:
    for text in texts:
        with pytest.raises(ArgumentTypeError) as caught:
            read(text)
        assert f"is not allowed; give {wanted}" in str(caught.value)


@pytest.mark.parametrize("read", [whole, sizes, seconds, hours, dollars, share])
@given(text=st.one_of(st.text(), st.floats().map(str), st.integers().map(str)))
def test_any_text_is_a_number_in_range_or_refused(read: Callable[[str], Any], text: str) -> None:
    with suppress(ArgumentTypeError):
        value = read(text)
        assert all(0 <= number < math.inf for number in (value if read is sizes else [value]))


def test_a_writable_file_is_left_unchanged(tmp_path: Path) -> None:
    assert writable(str(tmp_path / "new/x.json")) == tmp_path / "new/x.json"
    assert not (tmp_path / "new/x.json").exists()
    (tmp_path / "old").write_text("text")
    assert writable(str(tmp_path / "old")).read_text() == "text"
    for path in (tmp_path, tmp_path / "old/x.json"):
        with pytest.raises(ArgumentTypeError, match=r"written \((Is a directory|File exists)\); give another"):
            writable(str(path))


@pytest.mark.parametrize(
    "words",
    [
        ["bench", "inference", "--seconds", "-1"],
        ["bench", "train", "--round-seconds", "nan"],
        ["bench", "data", "--rounds", "1e3"],
        ["bench", "checkpoint", "--depth", "x"],
        ["predict", "--model-dir", "m", "x.png", "--top", "0"],
        ["resume", "job", "--max-minutes", "1.5"],
        ["image", "push", "--print-policy", "--account", "12"],
    ],
)
def test_commands_name_the_value_and_what_is_allowed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    flag, value = words[-2:]
    assert told.startswith(f"wrn {words[0]}: {flag}: '{value}' is not allowed; give ")
    assert told.count("\n") == 1
