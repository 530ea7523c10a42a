"""The processes that train one model together: one or several, behind the same interface.

Data goes over NCCL between GPUs and over gloo between CPUs. Decisions (stop now? save now?) always go over gloo: they
are made on the host and must not wait for a GPU.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from wrn.distributed.environment import Place
from wrn.errors import Interrupted, LostProcess, TrainingError, WrnError
from wrn.model.batch_norm import preserve_bn_statistics
from wrn.strict_json import to_json
from wrn.text import duration

PATIENCE = timedelta(seconds=40)
"""How long a step may wait for another process: a hung process ends the job within a minute."""
LONG_PATIENCE = timedelta(minutes=30)
"""How long other processes may take for one-off work: fetching data, compiling, writing the last checkpoint."""

_outliving: list[Any] = []
"""Process groups already destroyed, kept alive until the program ends. DistributedDataParallel's C++ part also holds
its group, and if it is the last to do so, it waits for gloo's threads while holding the GIL, which such a thread may be
waiting for: a deadlock (torch 2.13). Without this, two processes that joined and left in a loop hung within 50 rounds
in three of three trials; with it, 1,300 rounds passed."""

Answer = TypeVar("Answer")


class Processes:
    """The processes that train together, as seen from one of them. This base class is a single process."""

    place = Place()
    stop_reason = "a signal to another process"
    """Why `agree` returned stop in a process that did not ask for it."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.place.rank == 0

    def shared(self, model: nn.Module) -> nn.Module:
        """The model to train: its backward pass averages the gradients over all processes."""
        return model

    def agree(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        """(any process wants to stop, the first process wants to save): the same answer in all processes."""
        return stop, save

    def first_does(self, action: Callable[[], Answer]) -> Answer:
        """Run `action` in the first process; all of them return its result, or raise the WrnError that it raised."""
        return action()

    def broadcast_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors with those of the first process."""

    def sum_over_all(self, sums: Tensor) -> Tensor:
        """The sum over all processes."""
        return sums

    def min_over_all(self, values: Tensor) -> Tensor:
        """The minimum over all processes, element by element."""
        return values

    def rows(self, count: int) -> slice:
        """This process's share of `count` rows: the shares cover all rows without overlap."""
        size, rank = self.place.world_size, self.place.rank
        return slice(count * rank // size, count * (rank + 1) // size)

    def wait(self) -> None:
        """Wait until all processes get here, however long they take."""

    def expect_delay(self) -> None:
        """Allow the current step to take long, differently so in each process: kernels are chosen or compiled."""

    def failed(self, cause: BaseException) -> None:
        """Tell the other processes that this one is ending, and why."""

    def watched(self) -> AbstractContextManager[None]:
        """Inside, an error caused by the loss of another process is raised as LostProcess, which names that process."""
        return nullcontext()

    def close(self) -> None:
        """Leave the group."""


class DistributedProcesses(Processes):
    """One of several processes.

    Each process has the BN statistics of its own images, unless SyncBN is asked for; the model has those of the first
    process. `sync_bn` needs GPUs.
    """

    def __init__(self, place: Place, device: torch.device) -> None:
        self.place = place
        self._device = device
        self._step = 0
        store, _, _ = next(rendezvous("env://", place.rank, place.world_size, timeout=LONG_PATIENCE))
        # torchrun's store outlives its processes: do not read what an earlier attempt left in it.
        store = PrefixStore(f"attempt {place.attempt}", store)
        on_gpu = device.type == "cuda"
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.world_size,
            timeout=LONG_PATIENCE,
        )
        self._decisions = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._takes_long = True
        self._messages = PrefixStore("wrn", store)
        self._publish("step", 0)

    def shared(self, model: nn.Module) -> nn.Module:
        # BN statistics are per process, so nothing is sent before a forward pass (torch 2.13 renamed that option).
        # Gradients are sent in buckets of 25 MB, six for WRN-28-10, while the rest is being computed.
        wrapper = nn.parallel.DistributedDataParallel
        known = inspect.signature(wrapper).parameters
        unsynced: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
        }
        devices = [self._device] if self._device.type == "cuda" else None
        shared = wrapper(model, device_ids=devices, bucket_cap_mb=25, **unsynced)
        self._settle_buckets(shared)
        return shared

    def agree(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        self._step = step
        try:
            self._publish("step", step)
        except RuntimeError:  # torchrun keeps the store: with it gone, nothing would end these processes
            stop, self.stop_reason = True, "the end of torchrun"
        wishes = torch.tensor([stop, save and self.is_first], dtype=torch.uint8)
        if self._takes_long:
            self.wait()
            self._takes_long = False
            self._wait_at_most(PATIENCE)
        dist.all_reduce(wishes, dist.ReduceOp.MAX, group=self._decisions)
        return bool(wishes[0]), bool(wishes[1])

    def first_does(self, action: Callable[[], Answer]) -> Answer:
        answer: list[Any] = [None, None]
        if self.is_first:
            try:
                answer[0] = action()
            except WrnError as error:
                answer[1] = error
        self.wait()
        dist.broadcast_object_list(answer, src=0, group=self._decisions)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def broadcast_from_first(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            dense = tensor.detach().contiguous()
            dist.broadcast(dense, src=0)
            tensor.data.copy_(dense)

    def sum_over_all(self, sums: Tensor) -> Tensor:
        sums = sums.clone()
        dist.all_reduce(sums)
        return sums

    def min_over_all(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values, dist.ReduceOp.MIN)
        return values

    def wait(self) -> None:
        dist.monitored_barrier(self._decisions, timeout=LONG_PATIENCE)

    def expect_delay(self) -> None:
        # This covers the gradient all-reduces too: they start in the backward pass, which a process may reach late.
        self._takes_long = True
        self._wait_at_most(LONG_PATIENCE)

    def failed(self, cause: BaseException) -> None:
        if isinstance(cause, (LostProcess, Interrupted)):
            return
        text = str(cause) if isinstance(cause, WrnError) else f"{type(cause).__name__}: {cause}"
        self._publish("cause", text.split("\n")[0])

    @contextmanager
    def watched(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what torch raises when another process's connection closes or stays silent
            if "shared memory" in str(error):  # NCCL's, of which a container has 64 MB
                raise TrainingError(
                    f"the GPUs cannot exchange data through /dev/shm ({str(error).splitlines()[-1]}); give docker run "
                    "--shm-size=1g or --ipc=host, or fewer --processes"
                ) from None
            if not _is_about_others(error):
                raise
            raise LostProcess(self._lost_process(str(error))) from None

    def close(self) -> None:
        _outliving.append(dist.group.WORLD)
        dist.destroy_process_group()

    def _wait_at_most(self, time: timedelta) -> None:
        """Set how long gradient all-reduces may wait for another process, from now on."""
        # Private in torch 2.8 to 2.14; there is no public way.
        distributed_c10d._set_pg_timeout(time, dist.group.WORLD)

    def _settle_buckets(self, shared: nn.Module) -> None:
        """Run one discarded pass, after which DistributedDataParallel's buckets keep their final order.

        It reorders them after its first backward pass. A gradient's place in its bucket decides in which order three or
        more processes add it up, so without this the first step after a resume would round differently.
        """
        with preserve_bn_statistics(shared):
            shared(torch.zeros(2, 3, 32, 32, device=self._device)).sum().backward()
        shared.zero_grad(set_to_none=True)

    def _publish(self, what: str, value: Any) -> None:
        facts = to_json({"host": self.place.host, "pid": os.getpid(), "value": value, "time": time.time()})
        self._messages.set(f"{what}/{self.place.rank}", facts)

    def _lost_process(self, error: str) -> str:
        """One line: which process was lost, where, why, and what to do."""
        end = "the last checkpoint is intact; run the same command again to resume"
        try:
            time.sleep(1)  # a failing process publishes the cause first, but its closed connection may be seen earlier
            others = [rank for rank in range(self.place.world_size) if rank != self.place.rank]
            steps = {rank: self._published("step", rank) for rank in others}
            for rank in steps:
                if cause := self._published("cause", rank):
                    return f"process {rank} on {cause['host']} failed: {cause['value']} ({end})"
        except RuntimeError:  # the store died with the first process
            return f"process 0 was lost after step {self._step}: {_short(error)}; {end}"
        heard = {rank: facts for rank, facts in steps.items() if facts}
        if len(heard) < len(steps):
            return f"process {min(steps.keys() - heard.keys())} never answered ({_short(error)}); {end}"
        rank, seen = min(heard.items(), key=lambda item: (item[1]["value"], item[1]["time"]))
        silent = time.time() - seen["time"]
        if silent > PATIENCE.total_seconds() / 2 and seen["host"] == self.place.host:
            # Whatever ends the job would wait for this process to exit, which a hung one never does.
            with suppress(OSError):
                os.kill(seen["pid"], signal.SIGKILL)
        return (
            f"process {rank} on {seen['host']} died or hangs: last heard from {duration(silent)} ago, in step "
            f"{seen['value']} ({_short(error)}); {end}"
        )

    def _published(self, what: str, rank: int) -> Mapping[str, Any]:
        key = f"{what}/{rank}"
        return dict(json.loads(self._messages.get(key))) if self._messages.check([key]) else {}


def _is_about_others(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in text for word in ("gloo", "connection", "timed out", "monitoredbarrier", "nccl", "broken pipe")
    )


def _short(error: str) -> str:
    """The last part of torch's message, without its source locations and advice."""
    line = error.strip().split("\n")[0]
    return line.rpartition("] ")[2][:120]


def join(place: Place, device: torch.device) -> Processes:
    """Join the processes that train together. Waits until all have joined."""
    return DistributedProcesses(place, device) if place.world_size > 1 else Processes()
