"""One of several processes that come, train a step and go, again and again (see test_processes)."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from wrn.config.launch import place
from wrn.model import WideResNet
from wrn.training.processes import DistributedProcesses
from wrn.training.replica import Replica


def come_and_go(number: int) -> None:
    processes = DistributedProcesses(replace(place(), attempt=number), torch.device("cpu"))
    forward = Replica(processes.shared(WideResNet(10, 1)), compile=False).forward
    forward(torch.randn(4, 3, 8, 8)).sum().backward()
    processes.sum_over_all(torch.ones(100_000))
    processes.close()
    del forward  # before the groups, as at the end of a run


if __name__ == "__main__":
    # No thread gives the interpreter's lock away unasked: what may hang, hangs at once.
    sys.setswitchinterval(1000)
    for number in range(int(sys.argv[1])):
        come_and_go(number)
