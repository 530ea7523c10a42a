"""The processes that train one model together: one, or several, with the same interface.

Data goes over NCCL between GPUs, over gloo between CPUs. Decisions (stop now? save now?) always go over gloo: they
are made on the host, and must not wait for a GPU.
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

from wrn.config.launch import Place
from wrn.errors import Interrupted, LostProcess, WrnError
from wrn.training.sam import statistics_kept

PATIENCE = timedelta(seconds=40)
"""How long a step may wait for another process: a hung one ends the job within a minute."""
LONG_PATIENCE = timedelta(minutes=30)
"""How long the others may be busy with what happens once: fetching data, compiling, writing the last checkpoint."""

_outliving: list[Any] = []
"""Groups of processes that have said goodbye, kept to the end of the program. DistributedDataParallel's C++ part holds
its group too, and were it the last to do so, would wait for gloo's threads without giving up the interpreter's lock,
which such a thread may be waiting for: both wait for ever (torch 2.13). Without this, two processes that came and went
in a loop hung within 50 rounds, three times of three; with it, 1,300 rounds passed."""

Answer = TypeVar("Answer")


class Processes:
    """The processes that train together, seen from one of them. This base class is the case of only one."""

    place = Place()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.place.rank == 0

    def shared(self, model: nn.Module) -> nn.Module:
        """The model as it is trained: its backward pass averages the gradients over all processes."""
        return model

    def agree(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        """(any process wants to stop, the first process wants to save): the same answer in all of them."""
        return stop, save

    def first_does(self, action: Callable[[], Answer]) -> Answer:
        """What the first process gets from `action`, in all of them; a WrnError it raises is raised in all."""
        return action()

    def broadcast_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors by those of the first process."""

    def sum_over_all(self, sums: Tensor) -> Tensor:
        """The sum over all processes."""
        return sums

    def min_over_all(self, values: Tensor) -> Tensor:
        """The smallest over all processes, element by element."""
        return values

    def rows(self, count: int) -> slice:
        """This process's share of so many rows: the shares cover all, without overlap."""
        size, rank = self.place.world_size, self.place.rank
        return slice(count * rank // size, count * (rank + 1) // size)

    def wait(self) -> None:
        """Until all processes are here, however long one of them takes."""

    def expect_delay(self) -> None:
        """The present step may take each process a long time of its own: kernels are chosen or compiled."""

    def failed(self, cause: BaseException) -> None:
        """Leave word for the others that this process ends, and why."""

    def watched(self) -> AbstractContextManager[None]:
        """Inside, an error that comes of another process's end is raised as LostProcess, which names it."""
        return nullcontext()

    def close(self) -> None:
        """Say goodbye to the others."""


class DistributedProcesses(Processes):
    """One of several processes.

    BN statistics are those of each process's own images, unless SyncBN is asked for; the first process's are the
    model's. `sync_bn` needs GPUs.
    """

    def __init__(self, place: Place, device: torch.device) -> None:
        self.place = place
        self._device = device
        self._step = 0
        store, _, _ = next(rendezvous("env://", place.rank, place.world_size, timeout=LONG_PATIENCE))
        # torchrun's store outlives its processes: what an earlier attempt left in it must not be read.
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
        self._word = PrefixStore("wrn", store)
        self._say("step", 0)

    def shared(self, model: nn.Module) -> nn.Module:
        # BN's statistics stay each process's own, so nothing is sent before a forward pass (torch 2.13 has a new name
        # for that). Gradients go out in buckets of 25 MB, six for WRN-28-10, while the rest is being computed.
        wrapper = nn.parallel.DistributedDataParallel
        known = inspect.signature(wrapper).parameters
        quiet: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
        }
        devices = [self._device] if self._device.type == "cuda" else None
        shared = wrapper(model, device_ids=devices, bucket_cap_mb=25, **quiet)
        self._settle_buckets(shared)
        return shared

    def agree(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        self._step = step
        self._say("step", step)
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
        # Of the gradients' sums, too: they are begun within the backward pass, which one process may reach much later.
        self._takes_long = True
        self._wait_at_most(LONG_PATIENCE)

    def failed(self, cause: BaseException) -> None:
        if isinstance(cause, (LostProcess, Interrupted)):
            return
        text = str(cause) if isinstance(cause, WrnError) else f"{type(cause).__name__}: {cause}"
        self._say("cause", text.split("\n")[0])

    @contextmanager
    def watched(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what torch raises when another process's connection closes or stays silent
            if not _is_about_others(error):
                raise
            raise LostProcess(self._who_is_lost(str(error))) from None

    def close(self) -> None:
        _outliving.append(dist.group.WORLD)
        dist.destroy_process_group()

    def _wait_at_most(self, time: timedelta) -> None:
        """How long sums of gradients may wait for another process, from now on."""
        # Private in torch 2.8 to 2.14, and there is no other way to it.
        distributed_c10d._set_pg_timeout(time, dist.group.WORLD)

    def _settle_buckets(self, shared: nn.Module) -> None:
        """One pass that counts for nothing, behind which DistributedDataParallel orders its buckets for good.

        It orders them anew after its first backward pass. Where a gradient lies in a bucket decides in which order
        three or more processes add it up, so the first step after a resume would round otherwise than it did before.
        """
        with statistics_kept(shared):
            shared(torch.zeros(2, 3, 32, 32, device=self._device)).sum().backward()
        shared.zero_grad(set_to_none=True)

    def _say(self, what: str, value: Any) -> None:
        facts = json.dumps({"host": self.place.host, "pid": os.getpid(), "value": value, "time": time.time()})
        self._word.set(f"{what}/{self.place.rank}", facts)

    def _who_is_lost(self, error: str) -> str:
        """One line: which process, where, why, and what to do."""
        end = "its last checkpoint is whole; the same command goes on from there"
        try:
            time.sleep(1)  # whoever fails leaves word first, but the news of its end may travel faster
            others = [rank for rank in range(self.place.world_size) if rank != self.place.rank]
            steps = {rank: self._heard("step", rank) for rank in others}
            for rank in steps:
                if cause := self._heard("cause", rank):
                    return f"process {rank} on {cause['host']} failed: {cause['value']} ({end})"
        except RuntimeError:  # the store went with the first process
            return f"process 0 is gone after step {self._step}: {_short(error)}; {end}"
        heard = {rank: facts for rank, facts in steps.items() if facts}
        if len(heard) < len(steps):
            return f"process {min(steps.keys() - heard.keys())} never answered ({_short(error)}); {end}"
        rank, seen = min(heard.items(), key=lambda item: (item[1]["value"], item[1]["time"]))
        silent = time.time() - seen["time"]
        if silent > PATIENCE.total_seconds() / 2 and seen["host"] == self.place.host:
            # Whoever ends the job would wait for it to end by itself, which a hung process does not.
            with suppress(OSError):
                os.kill(seen["pid"], signal.SIGKILL)
        return (
            f"process {rank} on {seen['host']} died or hangs: last heard of {silent:.0f} s ago, in step "
            f"{seen['value']} ({_short(error)}); {end}"
        )

    def _heard(self, what: str, rank: int) -> Mapping[str, Any]:
        key = f"{what}/{rank}"
        return dict(json.loads(self._word.get(key))) if self._word.check([key]) else {}


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
    """The processes that this one trains with. Waits for all of them to come."""
    return DistributedProcesses(place, device) if place.world_size > 1 else Processes()
