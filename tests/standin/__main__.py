"""Try `wrn deploy` by hand: PYTHONPATH=tests python -m standin --port 5000, then what it prints."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

from standin.server import StandIn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standin", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--minutes", type=float, default=60, help="how long it stays")
    parser.add_argument("--grace", type=float, default=120, help="seconds between SIGTERM and SIGKILL of a job")
    given = parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with tempfile.TemporaryDirectory(prefix="standin-") as work:
        aws = StandIn(Path(work), port=given.port, grace=given.grace)
        aws.start()
        sys.stdout.write("".join(f"export {name}={value}\n" for name, value in aws.environment.items()))
        sys.stdout.flush()
        done.wait(given.minutes * 60)
        aws.close()


if __name__ == "__main__":
    main()
