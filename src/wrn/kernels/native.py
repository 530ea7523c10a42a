"""wrn's C++ kernels for CPUs: compiled on the machine that runs them, for its exact CPU, and cached."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from wrn.config.paths import compile_cache
from wrn.filesystem import exists

FOLDER = Path(__file__).parent
SOURCES = (FOLDER / "norm_act.cpp", FOLDER / "convolve.cpp", FOLDER / "winograd.cpp")
HEADER = FOLDER / "lanes.h"
LANES = 16
"""The number of channels must be a multiple of this for all kernels: the largest value of `L` in lanes.h."""
COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: NaN must stay NaN, and sums and rounding must be done as written.
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")


def available() -> bool:
    """Whether this machine can run the kernels; the first call compiles them, which takes seconds."""
    return _built() is not None


def checked(x: Tensor, dtypes: Collection[torch.dtype]) -> Tensor:
    """x (B, C, H, W) in the layout of all kernels, channels-last. Raises RuntimeError if C or the dtype does not."""
    if x.shape[1] % LANES or x.dtype not in dtypes:
        kinds = " or ".join(map(str, dtypes))
        raise RuntimeError(
            f"{x.shape[1]} channels of {x.dtype}: this kernel needs a multiple of {LANES}, and {kinds}; use torch's"
        )
    return x.contiguous(memory_format=torch.channels_last)


def call(name: str, *arguments: Tensor | int) -> None:
    """Call a compiled function. Tensors are passed as unchecked data pointers, integers as longs.

    Raises RuntimeError if the kernels cannot be compiled here.
    """
    library = _built()
    if library is None:
        raise RuntimeError("wrn's kernels need Linux, a C++ compiler and a writable cache folder; use torch's instead")
    getattr(library, name)(
        *(
            ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_void_p(argument.data_ptr())
            for argument in arguments
        )
    )


@cache
def _built() -> ctypes.CDLL | None:
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))), None)
    if sys.platform != "linux" or compiler is None:
        return None
    target = "-march=native" if platform.machine() == "x86_64" else "-mcpu=native"
    command = [compiler, *FLAGS, target]
    try:
        path = compile_cache() / f"kernels-{_fingerprint(command)}.so"
        if not exists(path):
            _compile(command, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):  # disk full, no permission, another OpenMP than torch's, old compiler
        return None


def _compile(command: list[str], path: Path) -> None:
    """Build `path` from the sources atomically: other processes may look for it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        linked = Path(folder, "kernels.so")
        compiled = [Path(folder, f"{source.stem}.o") for source in SOURCES]
        commands = [[*command, "-c", str(s), "-o", str(o)] for s, o in zip(SOURCES, compiled, strict=True)]
        with ThreadPoolExecutor() as pool:  # in parallel, as the first start waits for them
            list(pool.map(_run, commands))
        # Linked without an OpenMP library: it uses torch's, which the process has loaded already.
        _run([command[0], "-shared", *map(str, compiled), "-o", str(linked)])
        linked.replace(path)


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


def _fingerprint(command: list[str]) -> str:
    """A hash of everything that affects the build, as different machines may share a home directory."""
    version = _run([command[0], "--version"])
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    processor = next((line for line in cpus if line.startswith(("flags", "Features"))), platform.processor())
    code = b"".join(path.read_bytes() for path in (HEADER, *SOURCES))
    parts = (code, " ".join(command).encode(), version, processor.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]
