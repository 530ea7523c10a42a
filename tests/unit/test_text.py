from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.text import clock, duration, figure, printable, shell_command, shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cat", "cat"),
        ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("caf\udcc3\udca9", "caf\u00e9"),  # as listed by a process whose locale is not UTF-8
        ("\ud800", r"\ud800"),
    ],
)
def test_names_as_text(name: str, text: str) -> None:
    assert printable(name) == text


@given(st.text(st.characters(categories=None)))
def test_printable_text_can_be_written_everywhere(name: str) -> None:
    assert printable(printable(name)) == printable(name)
    printable(name).encode()


def test_commands_to_copy() -> None:
    assert shell_command("wrn", "predict", "--model-dir", Path("my runs/m"), "IMAGE") == (
        "wrn predict --model-dir 'my runs/m' IMAGE"
    )
    assert shell_command("a", "$HOME", "it's", "") == "a '$HOME' 'it'\"'\"'s' ''"


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_a_shell_reads_the_same_words(words: list[str]) -> None:
    assert shlex.split(shell_command(*words)) == words


@pytest.mark.skipif(not Path("/bin/bash").is_file(), reason="needs bash")
def test_a_shell_reads_the_same_bytes() -> None:
    words = [b"caf\xe9", b"it's \\ \xff0", b"plain"]
    line = f"printf '%s\\n' {shell_command(*map(os.fsdecode, words))}"
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, check=True)
    assert done.stdout.splitlines() == words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-86391, "0 s"), (0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1 h 30 min")),
        *((11100, "3 h 05 min"), (86_400, "24 h"), (172_799, "48 h"), (172_800, "2 days"), (620_000, "7.2 days")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_clock_of_the_live_view() -> None:
    assert [clock(s) for s in (None, 0, 309.4, 360_000)] == ["-:--:--", "0:00:00", "0:05:09", "100:00:00"]


def test_figures_are_short_and_small_ones_are_not_0() -> None:
    numbers = (0.5, 0.001, 0.00001234, 0.0, 12345.678, 3, "x")
    assert [figure(number) for number in numbers] == ["0.5000", "0.0010", "1.234e-05", "0", "1.235e+04", "3", "x"]


def test_long_values_are_shortened() -> None:
    assert shown("x" * 98) == f"'{'x' * 98}'"
    assert shown("x" * 99) == f"'{'x' * 89}... (101 characters)"
