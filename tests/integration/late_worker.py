"""One of two processes, the second of which is late: in a step that may take long, and in one that may not."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

import torch

import wrn.distributed.processes as processes
from wrn.distributed.environment import place
from wrn.errors import LostProcess
from wrn.model import WideResNet
from wrn.training.replica import Replica

processes.PATIENCE = timedelta(seconds=2)
LATE = 3.5


def main() -> None:
    together = processes.join(place(), torch.device("cpu"))
    replica = Replica(together.shared(WideResNet(10, 1)), compile=False)

    def step(number: int, late: float) -> None:
        loss = replica.forward(torch.randn(4, 3, 8, 8)).sum()
        time.sleep(0 if together.is_first else late)
        replica.backward(loss)
        together.agree(number, False, False)

    for number in range(3):
        if number == 2:
            together.expect_delay()
        step(number, LATE if number != 1 else 0)
    try:
        with together.watched():
            step(3, LATE)
    except LostProcess as error:
        sys.stdout.write(f"lost: {error}\n")
    else:
        sys.stdout.write("lost nobody\n")


if __name__ == "__main__":
    main()
