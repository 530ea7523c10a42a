"""How the program ends: of several processes at once, alone in order."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = "import atexit; atexit.register(print, 'torn down'); from wrn.cli import run; run([{word!r}])"


@pytest.mark.parametrize(
    ("word", "environ", "code", "torn_down"),
    [("trian", {}, 2, True), ("trian", {"RANK": "0"}, 2, False), ("--version", {"RANK": "0"}, 0, True)],
)
def test_one_of_several_that_ends_with_a_mistake_tears_nothing_down(
    word: str, environ: dict[str, str], code: int, torn_down: bool
) -> None:
    alone = {key: value for key, value in os.environ.items() if key != "RANK"}
    command = [sys.executable, "-c", PROGRAM.format(word=word)]
    done = subprocess.run(command, env=alone | environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert ("torn down" in done.stdout) is torn_down
    assert ("is not a command" in done.stderr) is (code == 2)


def test_the_end_does_not_wait_for_threads_that_aws_does_not_answer() -> None:
    late = "from wrn.aws.account.waiting import WATCH; WATCH._late[0] = None; " + PROGRAM.format(word="--version")
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrn ")
    assert "torn down" not in done.stdout
