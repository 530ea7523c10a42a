"""The overhead of several processes over one: the same global batch on the same cores, over gloo, in one run.

    python benchmarks/bench_scaling.py --depth 16 --widen-factor 4 --batch-size 128 --output benchmarks/results/X.json

One process with all threads and N processes with 1/N of them each take turns, A B, A B, ... Both groups stay alive
throughout and sleep while the other is timed. An efficiency of 1 means that dividing the batch, averaging the
gradients and waiting for each other cost nothing. It also measures how long averaging the gradients takes by itself,
which is what bucketing overlaps with the backward pass.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from typing import Any

import torch
import torch.distributed as dist

from wrn.bench.environment import environment, write_json
from wrn.bench.timing import interleaved, seconds, spread
from wrn.bench.workload import Workload
from wrn.cli.values import whole, writable
from wrn.config import Config
from wrn.distributed.environment import place
from wrn.distributed.processes import join

REST = 0.3
"""Seconds before a turn, as threads of the other group may still be spinning while they wait for work."""


def work(config: Config) -> None:
    """A process of a group: reads `steps N` and `average` from standard input, and answers when it is done."""
    processes = join(place(), torch.device("cpu"))
    workload = Workload(config, processes)
    batches = workload.batches()
    gradients = torch.zeros(sum(parameter.numel() for parameter in workload.model.parameters()))
    for line in sys.stdin:
        command, _, number = line.strip().partition(" ")
        if command == "steps":
            workload.run(batches, int(number))
        elif command == "average" and processes.place.world_size > 1:
            dist.all_reduce(gradients)
        print("done", flush=True)
    processes.close()


class Group:
    """Processes that train together, each with an equal share of the threads."""

    def __init__(self, size: int, threads: int, config: Config) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._members = []
        for rank in range(size):
            variables = {
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": str(threads // size),
            }
            command = [sys.executable, __file__, "--worker", config.model_dump_json()]
            self._members.append(
                subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )

    def do(self, command: str) -> None:
        """Send the command to all members, and wait for all of them."""
        for member in self._members:
            assert member.stdin is not None
            member.stdin.write(command + "\n")
            member.stdin.flush()
        for member in self._members:
            assert member.stdout is not None
            if member.stdout.readline() != "done\n":
                raise SystemExit("a process of the benchmark ended early; see its message above")

    def close(self) -> None:
        for member in self._members:
            assert member.stdin is not None
            member.stdin.close()
        for member in self._members:
            member.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=whole, default=16)
    parser.add_argument("--widen-factor", type=whole, default=4)
    parser.add_argument("--batch-size", type=whole, default=128, help="over all processes")
    parser.add_argument("--processes", type=whole, default=2)
    parser.add_argument("--steps", type=whole, default=2, help="steps per turn")
    parser.add_argument("--rounds", type=whole, default=5, help="turns per group, for the median")
    parser.add_argument("--output", type=writable, help="where to write the figures as JSON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(Config.model_validate_json(args.worker))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < args.processes:
        parser.error(f"--processes {args.processes} is more than the {cores} cores; lower it")
    threads = cores // args.processes * args.processes

    config = Config(
        depth=args.depth,
        widen_factor=args.widen_factor,
        batch_size=args.batch_size,
        device="cpu",
        dropout=0.0,
        mixup_alpha=0.0,
        cutout=0,
    )
    groups = {"one": Group(1, threads, config), "several": Group(args.processes, threads, config)}

    def turn(group: Group) -> float:
        time.sleep(REST)
        return seconds(lambda: group.do(f"steps {args.steps}"))

    times: dict[str, list[float]] = {name: [] for name in groups}
    for number in range(args.rounds + 1):
        for name, group in groups.items():
            taken = turn(group)
            if number:  # the first round selects kernels and connects the processes
                times[name].append(taken)
    average = interleaved({"average": lambda: groups["several"].do("average")}, args.rounds)["average"]
    for group in groups.values():
        group.close()

    rates = {name: spread([args.steps * args.batch_size / t for t in taken]) for name, taken in times.items()}
    efficiency = spread([one / several for one, several in zip(times["one"], times["several"], strict=True)])
    parameters = 4 * sum(p.numel() for p in Workload(config).model.parameters())
    share = spread(average)["median"] * args.steps / spread(times["several"])["median"]
    network = f"WRN-{args.depth}-{args.widen_factor}"
    print(f"{network}, batch {args.batch_size} over all processes, {threads} threads in total")
    print(f"one process: {rates['one']['median']:.1f} images/s")
    print(
        f"{args.processes} processes: {rates['several']['median']:.1f} images/s, efficiency {efficiency['median']:.1%}"
    )
    print(f"averaging {parameters / 1e6:.0f} MB of gradients alone takes {share:.1%} of such a step")
    if args.output:
        record: dict[str, Any] = {
            "benchmark": "scaling",
            "network": network,
            "batch_size": args.batch_size,
            "processes": args.processes,
            "threads": threads,
            "backend": "gloo",
            "images_per_s": rates,
            "efficiency": efficiency,
            "average_alone": {"bytes": parameters, "seconds": spread(average), "share_of_step": share},
            "rounds": args.rounds,
            "steps_per_round": args.steps,
            "environment": environment(),
        }
        write_json(args.output, record)


if __name__ == "__main__":
    main()
