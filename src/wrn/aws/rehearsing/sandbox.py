"""One host of a training job on this machine: a process that takes itself for the first of a container.

With Linux namespaces it is process 1 of its own, with the job's folder on the real /opt/ml and nothing to see of the
other processes here: what a container has, without Docker. Where namespaces are not allowed (or do not exist) it is a
plain process that is told another place for /opt/ml.
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
# Where there is no /opt/ml to mount on, /opt is covered by an empty one and its entries are put back: nothing outside
# sees any of it. They are reached as ./entry, from the folder below, which is why mount must not spell paths out.
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
"""How unshare tells that process 1 was killed: it ends itself by its child's signal, which with SIGKILL fails."""


@functools.cache
def best_isolation() -> Isolation:
    """What this machine allows; found by trying."""
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
    # Whoever is not root becomes root of a namespace of users, and only there.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [*UNSHARE, *user, "--", "/bin/sh", "-c", SETUP, "sh", str(root), str(hosts), name, *command]


class HostProcess:
    """The program of one host, running.

    root: the folder that the program sees as /opt/ml (or is told instead of it).
    environment: all of it; with "folders" it must name `root` in SAGEMAKER_BASE_DIR.
    hosts_file: what stands for /etc/hosts, with namespaces.
    on_line: gets each line of output, without its end, in a thread of this object.
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
            start_new_session=True,  # Ctrl-C at the terminal is for us to pass on
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {host}", daemon=True)
        self._reader.start()

    def terminate(self) -> None:
        """SIGTERM to process 1, and to no other."""
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
        """The exit code, as a shell tells it (128 + signal), or None while it runs. All its output is read then."""
        code = self._popen.poll()
        if code is None:
            return None
        if self._isolation == "folders":
            self._kill_group()
        # Bounded: a process that left its group may hold the pipe open for ever.
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
        """Its number out here. `unshare` is its parent, and waits for it; itself where it has not come so far."""
        deadline = time.monotonic() + 1
        while self._first is None and time.monotonic() < deadline and self._popen.poll() is None:
            self._first = next((pid for pid, parent in _parents() if parent == self._popen.pid), None)
            if self._first is None:
                time.sleep(0.01)
        return self._first or self._popen.pid

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        # torchrun gives each of its processes a group of its own. They are known by what they inherited.
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self._mark in environ.read_bytes().split(b"\0"):
                    os.kill(int(environ.parent.name), signal.SIGKILL)


def _parents() -> Iterator[tuple[int, int]]:
    """(process, its parent), of all that can be seen."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # The second field is the program's name in brackets, which may have blanks and brackets inside.
            yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
