"""One host of a training job on this machine: a process that runs as if it were process 1 of a container.

With Linux namespaces it is its own process 1, with the job's folder mounted on the real /opt/ml, and sees no other
processes: like a container, without Docker. If namespaces are not allowed (or do not exist), it is a plain process that
is given another path for /opt/ml.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

Isolation = Literal["namespaces", "folders"]

# The arguments: the folder for /opt/ml, the file for /etc/hosts, the host's name, then the program.
# If there is no /opt/ml to mount on, an empty /opt is mounted over the old one and its entries are bound back,
# invisible from outside. They are reached as ./entry, in the folder below, so mount must not canonicalize paths.
SETUP = """
set -e
if [ ! -d /opt/ml ]; then
  cd /opt
  mount -t tmpfs -o mode=755 tmpfs /opt
  for entry in ./* ./.[!.]*; do
    if [ -L "$entry" ]; then cp -P "$entry" "/opt/$entry"
    elif [ -d "$entry" ]; then mkdir "/opt/$entry"; mount --no-canonicalize --rbind "$entry" "/opt/$entry"
    elif [ -e "$entry" ]; then : > "/opt/$entry"; mount --no-canonicalize --bind "$entry" "/opt/$entry"
    fi
  done
  mkdir /opt/ml
fi
mount --rbind "$1" /opt/ml
mount --bind "$2" /etc/hosts
hostname "$3" 2>/dev/null || true
shift 3
cd /opt/ml/code
exec "$@"
"""

UNSHARE = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")

OF_SIGKILL = "unshare: sigprocmask unblock failed"
"""How unshare shows that process 1 was killed: it ends itself with its child's signal, which fails for SIGKILL."""


@functools.cache
def best_isolation() -> Isolation:
    """The best isolation that this machine allows, found by trying."""
    if shutil.which("unshare") is None:
        return "folders"
    with tempfile.TemporaryDirectory() as folder:
        hosts = Path(folder, "hosts")
        hosts.touch()
        Path(folder, "code").mkdir()
        test = ["sh", "-c", 'test $$ = 1 && test -f /opt/ml/hosts && test "$(id -u)" = 0']
        command = _in_namespaces(test, Path(folder), hosts, "try")
        try:
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return "folders"
    return "folders" if done.returncode else "namespaces"


def _in_namespaces(command: Sequence[str], root: Path, hosts: Path, name: str) -> list[str]:
    # A user other than root becomes root of a user namespace, and only there.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [*UNSHARE, *user, "--", "/bin/sh", "-c", SETUP, "sh", str(root), str(hosts), name, *command]


class HostProcess:
    """The program of one host, running.

    root: the folder that the program sees as /opt/ml (or is given instead of it).
    environment: the complete one; with "folders" it must name `root` in SAGEMAKER_BASE_DIR.
    hosts_file: mounted on /etc/hosts, with namespaces.
    on_line: called with each line of output, without its newline, in a thread of this object.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        root: Path,
        host: str,
        hosts_file: Path,
        environment: Mapping[str, str],
        isolation: Isolation,
        on_line: Callable[[str], None],
    ) -> None:
        self._isolation = isolation
        self._mark = f"SAGEMAKER_BASE_DIR={environment.get('SAGEMAKER_BASE_DIR', '')}".encode()
        self._first: int | None = None
        self._on_line = on_line
        self._killed = False
        wrapped = _in_namespaces(command, root, hosts_file, host) if isolation == "namespaces" else list(command)
        self._popen = subprocess.Popen(
            wrapped,
            cwd=root / "code",
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C at the terminal is passed on by the caller
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {host}", daemon=True)
        self._reader.start()

    def terminate(self) -> None:
        """SIGTERM to process 1 only."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to everything."""
        if self._isolation == "namespaces":
            self._signal(signal.SIGKILL)  # the kernel ends a namespace with its process 1
        else:
            self._kill_group()

    def end(self) -> None:
        """Kill, and wait until it is gone."""
        self.kill()
        self._popen.wait()
        self._reader.join(timeout=10)

    def poll(self) -> int | None:
        """The exit code as in a shell (128 + signal), after reading all output; None while it runs."""
        code = self._popen.poll()
        if code is None:
            return None
        if self._isolation == "folders":
            self._kill_group()
        # Bounded: a process that left its group may hold the pipe open forever.
        self._reader.join(timeout=10)
        if self._killed:
            return 128 + signal.SIGKILL
        return code if code >= 0 else 128 - code

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stream:
            for content in stream:
                line = content.decode("utf-8", errors="replace").rstrip("\r\n")
                if self._isolation == "namespaces" and line.startswith(OF_SIGKILL):
                    self._killed = True
                else:
                    self._on_line(line)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.poll() is not None:
            return
        pid = self._popen.pid if self._isolation == "folders" else self._process_one()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def _process_one(self) -> int:
        """Its process id outside the namespace, a child of `unshare`; that of `unshare` if it has not started yet."""
        deadline = time.monotonic() + 1
        while self._first is None and time.monotonic() < deadline and self._popen.poll() is None:
            self._first = next((pid for pid, parent in _parents() if parent == self._popen.pid), None)
            if self._first is None:
                time.sleep(0.01)
        return self._first or self._popen.pid

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        # torchrun gives each of its processes its own group; they are found by the environment they inherited.
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self._mark in environ.read_bytes().split(b"\0"):
                    os.kill(int(environ.parent.name), signal.SIGKILL)


def _parents() -> Iterator[tuple[int, int]]:
    """(process id, parent id) of all visible processes."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # The second field is the program's name in parentheses, which may itself contain spaces and parentheses.
            yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
