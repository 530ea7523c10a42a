"""One of several processes that repeatedly join, train a step and leave (see test_processes)."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from wrn.distributed.environment import place
from wrn.distributed.processes import DistributedProcesses
from wrn.model import WideResNet
from wrn.training.replica import Replica


def join_and_leave(number: int) -> None:
    processes = DistributedProcesses(replace(place(), attempt=number), torch.device("cpu"))
    forward = Replica(processes.shared(WideResNet(10, 1)), compile=False).forward
    forward(torch.randn(4, 3, 8, 8)).sum().backward()
    processes.sum_over_all(torch.ones(100_000))
    processes.close()
    del forward  # before the process groups, as at the end of a run


if __name__ == "__main__":
    # No thread gives up the GIL unless it must, so that a possible deadlock happens at once.
    sys.setswitchinterval(1000)
    for number in range(int(sys.argv[1])):
        join_and_leave(number)
