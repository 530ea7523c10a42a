"""`wrn bench`: the program's speed on this machine, compared with the machine's limits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from wrn.cli.values import reachable, seconds, sizes, whole, writable
from wrn.config.files import nearest
from wrn.config.flags import Parser, add_config_flags, parse_config
from wrn.errors import DONE, TrainingError
from wrn.wrapping import entry, paragraph

KINDS = {
    "train": "images/s of the training step and its phases, MFU, seconds per epoch; takes the flags of `wrn train`",
    "inference": "latency of one image and throughput by batch size, running the model as `wrn predict` does",
    "data": "images/s of the batch path by augmentation policy",
    "checkpoint": "seconds to save and load a run's state, and what a checkpoint adds to a step",
}
CARE = (
    "Each also measures the machine's limits in the same run. --output FILE saves the figures as JSON, with hardware, "
    "versions and commit. Other running programs distort the figures: threads that wait for each other lose far more "
    "than their share of the cores."
)


def main(arguments: Sequence[str]) -> int:
    kinds = {"train": train, "inference": inference, "data": data, "checkpoint": checkpoint}
    parser = Parser(
        prog="wrn bench",
        usage=f"wrn bench {'|'.join(kinds)} [FLAGS]",
        description="\n".join([*(entry(name, text, 10) for name, text in KINDS.items()), "", paragraph(CARE)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if not arguments or arguments[0] not in kinds:
        parser.parse_known_args(arguments)  # --help ends here
        hint = nearest(arguments[0], list(kinds)) if arguments else ""
        parser.error(f"choose a benchmark: {', '.join(kinds)}{hint}")
    kind, *rest = arguments
    try:
        return kinds[kind](rest)
    except RuntimeError as error:
        from wrn.training.step import out_of_memory

        if out_of_memory(error):
            raise TrainingError("out of memory; give smaller batches or a smaller network") from None
        raise


def train(arguments: Sequence[str]) -> int:
    own = common()
    own.prog = "wrn bench train"  # for errors about its own flags
    own.add_argument("--rounds", type=whole, default=5, metavar="N", help="rounds to take the median of [5]")
    own.add_argument("--round-seconds", type=seconds, default=2.0, metavar="S", help="length of each round [2.0]")
    parser = Parser(
        prog="wrn bench train", parents=[own], allow_abbrev=False, usage="wrn bench train [--KEY VALUE ...]"
    )
    add_config_flags(parser)
    options, rest = own.parse_known_args(arguments)
    if {"-h", "--help"} & set(rest):
        parser.print_help()
        return DONE
    resolved = parse_config(parser, rest)
    sys.stderr.write("".join(f"{line}\n" for line in resolved.changes))
    from wrn.bench import train as benchmark

    return report(
        benchmark.measure(resolved.config, rounds=options.rounds, round_s=options.round_seconds), benchmark, options
    )


def inference(arguments: Sequence[str]) -> int:
    parser = Parser(prog="wrn bench inference", parents=[common(), machine(28, 10)], allow_abbrev=False)
    parser.add_argument("--model-dir", type=reachable, metavar="D", help="a trained model [random weights]")
    parser.add_argument(
        "--batch-sizes", type=sizes, default=(1, 8, 64, 512), metavar="LIST", help='images per batch ["1 8 64 512"]'
    )
    parser.add_argument("--seconds", type=seconds, default=2.0, metavar="S", help="time per batch size [2.0]")
    options = parser.parse_args(arguments)
    from wrn.bench import inference as benchmark

    record = benchmark.measure(
        options.model_dir,
        depth=options.depth,
        widen_factor=options.widen_factor,
        device=options.device,
        batch_sizes=options.batch_sizes,
        at_least=options.seconds,
    )
    return report(record, benchmark, options)


def data(arguments: Sequence[str]) -> int:
    parser = Parser(prog="wrn bench data", parents=[common()], allow_abbrev=False)
    parser.add_argument("--batch-size", type=whole, default=256, metavar="N", help="images per batch [256]")
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:1 or mps [auto]")
    parser.add_argument("--threads", type=whole, metavar="N", help="threads on a CPU [all cores]")
    parser.add_argument("--rounds", type=whole, default=5, metavar="N", help="rounds per policy [5]")
    parser.add_argument("--batches", type=whole, default=20, metavar="N", help="batches per round [20]")
    options = parser.parse_args(arguments)
    from wrn.bench import data as benchmark

    record = benchmark.measure(
        options.device,
        batch_size=options.batch_size,
        threads=options.threads,
        rounds=options.rounds,
        batches=options.batches,
    )
    return report(record, benchmark, options)


def checkpoint(arguments: Sequence[str]) -> int:
    parser = Parser(prog="wrn bench checkpoint", parents=[common(), machine(28, 10)], allow_abbrev=False)
    parser.add_argument("--batch-size", type=whole, default=16, metavar="N", help="images per step [16]")
    parser.add_argument("--steps", type=whole, default=6, metavar="N", help="steps around each checkpoint [6]")
    parser.add_argument("--rounds", type=whole, default=5, metavar="N", help="number of checkpoints [5]")
    parser.add_argument("--folder", type=reachable, metavar="D", help="where to write [a temporary folder]")
    options = parser.parse_args(arguments)
    from wrn.bench import checkpoint as benchmark

    record = benchmark.measure(
        depth=options.depth,
        widen_factor=options.widen_factor,
        batch_size=options.batch_size,
        device=options.device,
        steps=options.steps,
        rounds=options.rounds,
        folder=options.folder,
    )
    return report(record, benchmark, options)


def report(record: dict[str, Any], benchmark: Any, options: argparse.Namespace) -> int:
    """Print the record as the benchmark's own lines, and save it if asked to."""
    from wrn.bench.environment import write_json

    sys.stdout.write("\n".join(benchmark.lines(record)) + "\n")
    if options.output:
        write_json(options.output, record)
    return DONE


def common() -> Parser:
    """The flag that all kinds share."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output", type=writable, metavar="FILE", help="save the figures as JSON")
    return parser


def machine(depth: int, widen_factor: int) -> Parser:
    """The flags of the kinds that take a network and a device, but no configuration."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--depth", type=whole, default=depth, metavar="N", help=f"6n+4 [{depth}]")
    parser.add_argument("--widen-factor", type=whole, default=widen_factor, metavar="N", help=f"[{widen_factor}]")
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:1 or mps [auto]")
    return parser
