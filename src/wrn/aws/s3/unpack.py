"""Unpack an archive from the network safely: only plain files and folders, and only inside one folder."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from wrn.errors import AwsError

MOST_MEMBERS = 100_000
MOST_BYTES = 20 * 1000**3
"""Unpacked. A WRN-28-10 has 146 MB."""

CHUNK = 1 << 20


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack a .tar.gz into `folder`, which must be empty; gives the names of its files, sorted.

    Reading to the end checks gzip's checksum. Raises AwsError for a damaged archive, and for one with a member that
    would leave the folder, is a link or a device, or occurs twice; the caller removes what was unpacked until then.
    """
    names: list[str] = []
    room = min(MOST_BYTES, shutil.disk_usage(folder).free)
    try:
        with tarfile.open(archive, mode="r|gz") as members:
            for number, member in enumerate(members):
                if number >= MOST_MEMBERS:
                    raise AwsError(f"{archive.name}: has more than {MOST_MEMBERS:,} members; nothing was unpacked")
                path = _safe_name(member, archive.name)
                if path is None:
                    continue
                target = folder.joinpath(*path.parts)
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                room -= member.size
                if room < 0:
                    raise AwsError(f"{archive.name}: unpacks to more than the free disk space, or to over 20 GB")
                target.parent.mkdir(parents=True, exist_ok=True)
                source = members.extractfile(member)
                assert source is not None  # a plain file has content
                # Without the archive's modes and owners; "x" because a member must not replace another.
                with target.open("xb") as file:
                    shutil.copyfileobj(source, file, CHUNK)
                names.append(path.as_posix())
        with gzip.open(archive) as whole:  # tar stops at its own end; the checksum comes after it
            while whole.read(CHUNK):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise AwsError(f"{archive.name}: is damaged ({error}); fetch it again") from None
    except OSError as error:
        raise AwsError(f"{archive.name}: cannot be unpacked ({error.strerror or error})") from None
    return sorted(names)


def _safe_name(member: tarfile.TarInfo, archive: str) -> PurePosixPath | None:
    """The member's place under the folder; None for the folder itself."""
    kind = "a link" if member.issym() or member.islnk() else "a device"
    if not (member.isreg() or member.isdir()):
        raise AwsError(f"{archive}: {member.name!r} is {kind}, which no model contains; nothing of it was kept")
    path = PurePosixPath(member.name)
    odd = "\\" in member.name or ":" in member.name or any(ord(letter) < 32 for letter in member.name)
    if path.is_absolute() or ".." in path.parts or odd:
        raise AwsError(f"{archive}: {member.name!r} would leave its folder; nothing of it was kept")
    return path if path.parts else None
