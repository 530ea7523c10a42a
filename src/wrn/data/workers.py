"""Items computed ahead by worker processes, which share no memory with the run.

torch's DataLoader hands tensors over in /dev/shm, of which a container has 64 MB: once that is full, a batch is lost,
and the run waits for it for ever. If a worker dies, it raises in the middle of a training step. Here each worker has a
pipe: nothing depends on /dev/shm, and the death of a worker shows where an item is awaited, which is between two steps.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from wrn.errors import WorkerLost, WrnError
from wrn.signals import STOP_SIGNALS

AHEAD = 2
"""Items per worker that may be under way or finished: one to compute while the one before waits to be used."""

LOOK_S = 0.25
"""Seconds between two calls of `waiting`."""

CAUSES: dict[int | None, str] = {
    signal.SIGKILL: "usually because memory ran out; give fewer --num-workers, or a container more memory",
    signal.SIGBUS: "usually because shared memory ran out; give docker run --shm-size=1g, or fewer --num-workers",
}

Item = TypeVar("Item")


class _Worker:
    """A process that computes the items whose numbers it is sent, in that order."""

    def __init__(
        self, context: Any, compute: Callable[[int], Any], begin: Callable[[], None], others: Sequence[_Worker]
    ) -> None:
        self.pipe, other_end = context.Pipe()
        not_its_own = [self.pipe, *(other.pipe for other in others)]  # a fork gets these too
        self.process: BaseProcess = context.Process(
            target=_serve, args=(compute, begin, other_end, not_its_own), daemon=True
        )
        self.under_way = 0
        self._receiver: threading.Thread | None = None
        try:
            with warnings.catch_warnings():
                # Python 3.12 and newer warn of forking beside threads. The workers use none of the run's: only pipes,
                # NumPy and what `begin` makes single-threaded.
                warnings.simplefilter("ignore", DeprecationWarning)
                self.process.start()
        except OSError:
            self.pipe.close()
            raise
        finally:
            other_end.close()  # each end has one holder, so that whoever dies, the other finds the pipe closed

    def receive_into(self, arrived: SimpleQueue[Answer]) -> None:
        """From now on, put the answers there. In a thread: one that a stopped worker leaves unfinished never ends."""
        self._receiver = threading.Thread(target=self._receive, args=(arrived,), daemon=True)
        self._receiver.start()

    def _receive(self, arrived: SimpleQueue[Answer]) -> None:
        try:
            while True:
                arrived.put((self, *self.pipe.recv()))
        except Exception as error:
            arrived.put((self, None, error))

    def ask(self, number: int) -> None:
        self.under_way += 1
        with suppress(OSError):  # it has died, which `_receive` reports
            self.pipe.send(number)

    def death(self) -> WorkerLost:
        self.process.join(5)
        code = self.process.exitcode
        number = next((number for number in signal.Signals if code == -number), None)
        how = f"exit code {code}" if number is None else number.name
        cause = CAUSES.get(number, "for reasons of its own; --num-workers 0 may show them")
        return WorkerLost(f"a worker process that prepares batches ended with {how}, {cause}")

    def end(self) -> None:
        """At once, as it ignores the signals that end a run."""
        self.process.kill()
        self.process.join()
        if self._receiver is not None:
            self._receiver.join()
        self.pipe.close()


Answer = tuple[_Worker, int | None, Any]
"""Whose, the number of the item, and the item or the exception in its place. Without a number, it is the last one."""


def computed_ahead(
    compute: Callable[[int], Item],
    numbers: range,
    workers: int,
    *,
    begin: Callable[[], None] = lambda: None,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Item]:
    """compute(n) for each n of `numbers`, in order, by so many worker processes. They end with the iterator.

    compute: returns what pickles; not tensors, which would travel in shared memory.
    begin: called first in each worker. waiting: called a few times a second while an item is awaited; what it raises
        ends the iterator.

    Raises WorkerLost if the workers cannot be started or one of them dies, and what `compute` raises.
    """
    pool: list[_Worker] = []
    arrived: SimpleQueue[Answer] = SimpleQueue()
    found: dict[int | None, Any] = {}
    end = partial(_end, pool)
    # Before multiprocessing's own handler, which would wait for the workers after a SIGTERM that they ignore.
    atexit.register(end)
    try:
        _start(pool, compute, workers, begin)
        for worker in pool:  # when all are forked
            worker.receive_into(arrived)
        ahead = iter(numbers)
        for _ in range(AHEAD * workers):
            _ask_for_next(pool, ahead)
        for number in numbers:
            while number not in found:
                try:
                    worker, its_number, item = arrived.get(timeout=LOOK_S)
                except Empty:
                    waiting()
                    continue
                if its_number is None:
                    raise worker.death() if isinstance(item, (EOFError, OSError)) else item
                worker.under_way -= 1
                found[its_number] = item
            item = found.pop(number)
            if isinstance(item, Exception):
                raise item
            _ask_for_next(pool, ahead)
            yield item
    finally:
        atexit.unregister(end)
        end()


def _start(pool: list[_Worker], compute: Callable[[int], Any], workers: int, begin: Callable[[], None]) -> None:
    # A fork shares the images; elsewhere (it is not safe on macOS) each worker gets a copy.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    try:
        for _ in range(workers):
            pool.append(_Worker(context, compute, begin, pool))
    except OSError as error:
        raise WorkerLost(
            f"worker process {len(pool) + 1} of {workers} cannot be started ({error.strerror}); give fewer "
            "--num-workers, or a container higher limits (docker run --pids-limit, --memory)"
        ) from None


def _ask_for_next(pool: Sequence[_Worker], ahead: Iterator[int]) -> None:
    number = next(ahead, None)
    if number is not None:
        min(pool, key=lambda worker: worker.under_way).ask(number)


def _end(pool: list[_Worker]) -> None:
    while pool:
        pool.pop().end()


def _serve(
    compute: Callable[[int], Any], begin: Callable[[], None], pipe: Connection, not_its_own: Sequence[Connection]
) -> None:
    """In a worker: answer until the run closes the pipe, or dies.

    Signals to the whole process group, as from `timeout`, torchrun or Ctrl-C, are meant for the run: it still takes a
    step with its workers, then ends them.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for other in not_its_own:
        other.close()
    begin()
    with suppress(EOFError, OSError):
        while True:
            wanted = pipe.recv()
            pipe.send((wanted, _outcome(compute, wanted)))


def _outcome(compute: Callable[[int], Any], number: int) -> Any:
    try:
        return compute(number)
    except WrnError as error:
        return error
    except Exception:  # with its origin, which a pickled exception would lose
        return RuntimeError(f"in a worker process: {traceback.format_exc()}")
