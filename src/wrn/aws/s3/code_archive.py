"""The code that a training container runs, as one small .tar.gz: the same tree gives the same bytes.

What goes in is an allowlist of what a container needs, never "everything but": data, keys or a virtual environment
next to the code cannot slip in.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from wrn.errors import AwsError
from wrn.filesystem import exists, is_file

FOLDERS = {"src/wrn": (".py", ".cpp", ".h", ".sh", ".typed", ".yaml", ".yml")}
"""Folders that go in, and the file types taken from them."""

REQUIREMENTS = "src/requirements.txt"

FILES = ("src/train.py", REQUIREMENTS, "requirements.txt")
"""Single files that go in. AWS's toolkit looks for requirements.txt at the root; it names the other."""

LARGEST = 1_000_000
"""Bytes. Far more than the code; more means that something unexpected is in the tree."""

MOMENT = 315_532_800
"""The timestamp of every file: 1 January 1980 (tar warns about older ones)."""


@dataclass(frozen=True)
class Bundle:
    """A packed code tree; its name carries the sha256 of its bytes."""

    content: bytes
    files: tuple[str, ...]
    root: Path = field(default=Path(), compare=False)
    """The folder whose code it is."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def name(self) -> str:
        return f"wrn-{self.sha256}.tar.gz"


def source_root() -> Path:
    """The repository that this package is part of."""
    return Path(__file__).resolve().parents[4]


def build_bundle(root: Path) -> Bundle:
    """Pack the code of the repository at `root`. Raises AwsError if something is missing, a link, or too large."""
    files = bundle_files(root)
    packed = io.BytesIO()
    # No file name or time in gzip's header; fixed owner, mode and time in tar's: only names and content matter.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0, compresslevel=9) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in files:
            content = text_of(root / name)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), MOMENT, 0o644
            archive.addfile(entry, io.BytesIO(content))
    bundle = Bundle(packed.getvalue(), files, root)
    if len(bundle.content) > LARGEST:
        largest = max(files, key=lambda name: (root / name).stat().st_size)
        raise AwsError(
            f"the code is {len(bundle.content) / 1e6:.1f} MB packed, above {LARGEST / 1e6:.0f} MB; "
            f"the largest file is {largest}: move it out of the source tree"
        )
    return bundle


def text_of(path: Path) -> bytes:
    """A text file with Linux's line endings: bash runs no script with those of a checkout on Windows."""
    return path.read_bytes().replace(b"\r\n", b"\n")


def bundle_files(root: Path) -> tuple[str, ...]:
    """The names of the files that go in, relative to `root`, sorted."""
    missing = [name for name in ("src/train.py", REQUIREMENTS, "src/wrn") if not exists(root / name)]
    if missing:
        raise AwsError(f"{root} has no {', '.join(missing)}; run this from a clone of the repository")
    names = [name for name in FILES if exists(root / name)]
    for folder, suffixes in FOLDERS.items():
        for here, folders, files in os.walk(root / folder):
            folders[:] = [name for name in folders if _wanted(name)]
            names += [
                (Path(here) / name).relative_to(root).as_posix()
                for name in files
                if _wanted(name) and name.endswith(suffixes)
            ]
    for name in names:
        path = root / name
        if not is_file(path) or not path.resolve().is_relative_to(root.resolve()) or path.is_symlink():
            raise AwsError(f"{path}: is not a plain file, and only plain files are sent; replace it with a copy")
    return tuple(sorted(names))


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name != "__pycache__"
