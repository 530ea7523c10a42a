"""The training entry point that SageMaker calls: the same program as `wrn train`, with the same flags."""

import signal
import sys

if __name__ == "__main__":
    # As a container's process 1 it gets only the signals that it asks for. Training asks for SIGTERM itself, but not
    # in the seconds until then, and a signal lost there costs the two minutes until SageMaker kills.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    from wrn.cli import run

    run(["train", *sys.argv[1:]])
