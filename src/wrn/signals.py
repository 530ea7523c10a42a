"""The signals that ask a run to save and end."""

from __future__ import annotations

import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""SIGINT is Ctrl-C, SIGHUP a closed terminal, SIGUSR1 what SLURM sends before a time limit (`--signal=USR1@120`)."""


def hangup_ignored() -> bool:
    """Whether this program was started to outlive its terminal, as by nohup."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
