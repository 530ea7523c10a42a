"""The packages of a job that may have no network: fetched here for the Python of its image, sent with the code."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wrn.aws.jobs.options import DeployOptions, image_uri
from wrn.aws.s3.code_archive import REQUIREMENTS
from wrn.aws.s3.dataset_files import Parcel
from wrn.config.paths import cache_dir
from wrn.errors import AwsError
from wrn.filesystem import is_dir, is_file

PYTHONS = ("3.12", "3.13")
"""If an image does not say which it has: the wheels of both, and pip picks those that fit."""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

FETCH_SECONDS = 600


def wheels_key(requirements: str, pythons: tuple[str, ...]) -> str:
    """The same for the same requirements: jobs install what the first one did, until the requirements change."""
    return hashlib.sha256("\n".join((requirements, *pythons, *PLATFORMS)).encode()).hexdigest()[:16]


def pythons_of(options: DeployOptions) -> tuple[str, ...]:
    """The Python versions that the image may have, from its tag."""
    found = re.search(r"[-:]py(3)(\d{1,2})(?:-|$)", image_uri(options))
    return (f"{found[1]}.{found[2]}",) if found else PYTHONS


def wheels_name(root: Path, options: DeployOptions) -> str:
    """The folder of the wheels in the bucket; empty if the job has internet access, or uses wrn's own image, which
    contains the packages. Fetches nothing.

    A given subnet may have no route to a package index, which would only show on a paid instance.
    """
    if options.image_tag or not (options.network_isolation or options.subnets):
        return ""
    return f"wheels-{wheels_key(_requirements(root), pythons_of(options))}"


def fetch_wheels(root: Path, options: DeployOptions, cache: Path | None = None) -> Parcel:
    """The wheels that requirements.txt asks for, with their dependencies, from the user's package index.

    They are kept in wrn's cache folder. Raises AwsError if pip cannot fetch them.
    """
    pythons = pythons_of(options)
    key = wheels_key(_requirements(root), pythons)
    folder = (cache or cache_dir()) / f"wheels-{key}"
    if not is_dir(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".wheels-", dir=folder.parent))
        except OSError as error:
            raise AwsError(f"{folder}: cannot be written ({error.strerror}); fix that") from None
        try:
            for python in pythons:
                _download(root / REQUIREMENTS, python, part)
            if not is_dir(folder):  # a concurrent deployment may have finished first
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Parcel(tuple((path.name, path) for path in sorted(folder.glob("*.whl"))), key)


def _download(requirements: Path, python: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", f"--dest={folder}"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    try:
        done = subprocess.run(
            [*command, "-r", str(requirements)], capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise AwsError(f"packages: pip did not finish within {FETCH_SECONDS} s; try again") from None
    if done.returncode:
        # Not the whole output: it may contain an index address with a password.
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR:")), "ERROR: unknown")
        reason = re.sub(r"\w+://\S+", "<address>", reason.removeprefix("ERROR:").strip())
        if "CERTIFICATE_VERIFY_FAILED" in done.stderr:
            reason = "the index's certificate could not be verified; if a proxy here inspects TLS, set PIP_CERT to a "
            reason += "file with its CA certificate"
        raise AwsError(
            f"packages: those for Python {python} cannot be fetched by pip ({reason}); "
            "give an image that has them as --image-uri, or leave out --network-isolation"
        )


def _requirements(root: Path) -> str:
    path = root / REQUIREMENTS
    return path.read_text(encoding="utf-8") if is_file(path) else ""
