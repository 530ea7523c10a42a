"""`wrn train` whose steps wait for another process for so many seconds: patient_worker.py SECONDS FLAGS"""

from __future__ import annotations

import sys
from datetime import timedelta

import wrn.distributed.processes as processes
from wrn.cli import run

if __name__ == "__main__":
    processes.PATIENCE = timedelta(seconds=float(sys.argv[1]))
    run(["train", *sys.argv[2:]])
