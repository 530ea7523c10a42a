from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.text import duration, printable, shell_command


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
        *((11100, "3 h 05 min"), (172_799, "48 h 00 min"), (172_800, "2.0 days")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
