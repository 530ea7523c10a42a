from __future__ import annotations

import errno
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mounting import may_mount
from wrn.data import workers
from wrn.data.workers import AHEAD, computed_ahead
from wrn.errors import ConfigError, WorkerLost


def triple(number: int) -> np.ndarray:
    """2 MB, far more than a pipe holds, after a time that differs from item to item."""
    time.sleep(0.002 * (number * 7 % 5))
    return np.full(2_000_000, 3 * number % 256, dtype=np.uint8)


def ended() -> bool:
    return multiprocessing.active_children() == []


@pytest.mark.parametrize("count", [1, 3])
def test_items_come_in_order(count: int) -> None:
    items = list(computed_ahead(triple, range(5, 25), count))
    assert [int(item[0]) for item in items] == [3 * number % 256 for number in range(5, 25)]
    assert all(item.flags.writeable for item in items), "torch.from_numpy would warn"
    assert ended()


def test_no_more_are_computed_ahead_than_can_soon_be_used(tmp_path: Path) -> None:
    def note(number: int) -> int:
        (tmp_path / str(number)).touch()
        return number

    items = computed_ahead(note, range(100), 2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) <= 3 + 2 * AHEAD
    items.close()  # type: ignore[attr-defined]
    assert ended()


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "SIGKILL, usually because memory"), (signal.SIGBUS, "SIGBUS, .* --shm-size")]
)
def test_a_worker_that_is_killed(number: signal.Signals, words: str) -> None:
    def die(item: int) -> int:
        if item == 3:
            faulthandler.disable()
            os.kill(os.getpid(), number)
        return item

    found: list[int] = []
    with pytest.raises(WorkerLost, match=f"ended with {words}.* --num-workers"):
        found.extend(computed_ahead(die, range(9), 2))
    assert ended()


def test_a_worker_that_exits() -> None:
    with pytest.raises(WorkerLost, match="ended with exit code 7"):
        list(computed_ahead(lambda _: os._exit(7), range(9), 2))


def test_workers_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container may have no more processes."""
    started = workers._Worker.__init__
    count = [0]

    def limited(self: workers._Worker, *arguments: object) -> None:
        count[0] += 1
        if count[0] == 3:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(workers._Worker, "__init__", limited)
    with pytest.raises(WorkerLost, match=r"worker process 3 of 4 cannot be started .* fewer --num-workers"):
        next(computed_ahead(triple, range(9), 4))
    assert ended()


def test_what_is_raised_in_a_worker_is_raised_here() -> None:
    def refuse(number: int) -> int:
        if number == 1:
            raise ConfigError("key: is wrong")
        return 1 // (number - 2)

    items = computed_ahead(refuse, range(9), 2)
    assert next(items) == -1
    with pytest.raises(ConfigError, match=r"^key: is wrong$"):
        next(items)
    with pytest.raises(RuntimeError, match=r"in a worker process: (.|\n)*1 // \(number - 2\)(.|\n)*ZeroDiv"):
        next(computed_ahead(refuse, range(2, 9), 2))
    assert ended()


def test_waiting_may_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOOK_S", 0.01)
    calls = []

    def waiting() -> None:
        calls.append(time.monotonic())
        if len(calls) == 5:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        next(computed_ahead(lambda _: time.sleep(60), range(9), 2, waiting=waiting))
    assert ended(), "sleeping or not"


SCRIPT = """
import multiprocessing, os, sys, time
from wrn.data.workers import computed_ahead
def compute(number):
    return bytes(2_000_000) if number else b"first"
items = computed_ahead(compute, range(99), 3)
assert next(items) == b"first"
print(len(multiprocessing.active_children()), flush=True)
"""


@pytest.mark.parametrize(
    ("more", "kill"), [("sys.exit(5)", False), ("os._exit(5)", False), ("time.sleep(60)", True)], ids=str
)
def test_workers_end_with_the_program_however_it_ends(more: str, kill: bool) -> None:
    """With what they computed still on its way, and although they ignore SIGTERM."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT + more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "3\n"
    if kill:
        process.kill()
    process.communicate(timeout=30)  # until the last of them closes its stdout
    assert process.returncode == (-signal.SIGKILL if kill else 5)


def test_shared_memory_is_not_needed(tmp_path: Path) -> None:
    """64 MB of it are a container's; here is less than one item."""
    if not may_mount(tmp_path):
        pytest.skip("needs permission to mount a file system")
    program = SCRIPT.replace("range(99), 3", "range(20), 8") + "assert len(list(items)) == 19"
    mounted = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16k tmpfs /dev/shm; exec "$@"', "sh"]
    command = [*mounted, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
