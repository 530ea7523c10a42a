"""Building and pushing the image with this machine's container engine: docker, podman or finch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wrn.errors import AwsError

ENGINES = ("docker", "podman", "finch")
"""In order of preference. They take the same commands."""

PLATFORM = "linux/amd64"
"""The platform of SageMaker's GPU instances, whatever this machine is."""

BUILDKIT = ("--provenance=false", "--output", "type=docker")
FORMAT = {"docker": BUILDKIT, "podman": ("--format", "docker"), "finch": BUILDKIT}
"""SageMaker refuses images with an OCI manifest (amazon-sagemaker-feedback, issue 180), the engines' default; it takes
Docker's own format."""

FOLDERS = {"docker": ("~/.docker", "~/snap/docker/current/.docker"), "finch": ("~/.finch",)}
"""Where the file with the engine's logins is, if DOCKER_CONFIG does not say so. podman is asked instead."""

ECR_HELPER = "ecr-login"
"""Amazon's helper, which fetches passwords by itself and refuses to store any."""

ANSWER_SECONDS, LOGIN_SECONDS = 30, 60


class Engine:
    """A working engine. Its output while building and pushing goes to standard error."""

    def __init__(self, name: str) -> None:
        self.name = name

    def has(self, image: str) -> bool:
        return self._ask("image", "inspect", image).returncode == 0

    def build(self, root: Path, image: str) -> None:
        """Raises AwsError if the build fails; the engine itself has shown why."""
        dockerfile = str(root / "Dockerfile")
        how = ("--platform", PLATFORM, *FORMAT[self.name])
        self._show("build", *how, "--file", dockerfile, "--tag", image, str(root))

    def push(self, image: str, uri: str, *, password: str) -> None:
        """Push the image as `uri`. The password goes through a pipe.

        It is forgotten afterwards, unless the user was logged in to this registry before, and so stays logged in.
        """
        registry = uri.partition("/")[0]
        self._show("tag", image, uri)
        if self._has_helper(registry):
            self._show("push", uri)
            return
        stays = self._has_login(registry)
        try:
            done = self._ask("login", "--username", "AWS", "--password-stdin", registry, text=password)
            if done.returncode:
                raise AwsError(f"{self.name} cannot log in to {registry} ({_reason(done.stderr)}); fix that")
            self._show("push", uri)
        finally:
            if not stays:
                self._ask("logout", registry)

    def _has_login(self, registry: str) -> bool:
        if self.name == "podman":
            return self._ask("login", "--get-login", registry).returncode == 0
        names = [name for settings in self._settings() for name in settings.get("auths") or ()]
        # Also as an address: https://registry/v2/.
        return registry in {name.rpartition("://")[2].partition("/")[0] for name in names}

    def _has_helper(self, registry: str) -> bool:
        """Whether Amazon's helper logs the engine in by itself."""
        return any(
            ECR_HELPER in ((settings.get("credHelpers") or {}).get(registry), settings.get("credsStore"))
            for settings in self._settings()
        )

    def _settings(self) -> Iterator[dict[str, Any]]:
        """The engine's settings, those with the logins included; passwords in them are not looked at."""
        given = os.environ.get("DOCKER_CONFIG")
        for folder in [given] if given else FOLDERS.get(self.name, ()):
            try:
                content = json.loads(Path(folder, "config.json").expanduser().read_text(encoding="utf-8"))
            except (OSError, ValueError, RuntimeError):  # RuntimeError: nobody knows the home folder
                continue
            if isinstance(content, dict):
                yield content

    def _ask(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self.name, *words], input=text, capture_output=True, text=True, timeout=LOGIN_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise AwsError(f"{self.name} {words[0]} did not finish within {LOGIN_SECONDS} s; restart it") from None

    def _show(self, *words: str) -> None:
        done = subprocess.run([self.name, *words], stdin=subprocess.DEVNULL, stdout=2, check=False)
        if done.returncode:
            raise AwsError(f"{self.name} {words[0]} failed with exit code {done.returncode}; its output is above")


def find_engine() -> Engine:
    """The first engine that is installed and answers. Raises AwsError if there is none."""
    silent = []
    for name in ENGINES:
        if shutil.which(name) is None:
            continue
        reason = _silence([name, "ps", "--quiet"])
        if reason is None:
            return Engine(name)
        silent.append(f"{name} is installed but does not answer ({reason}); start it, or build on another machine")
    raise AwsError(
        "\n".join(silent) or f"none of {', '.join(ENGINES)} is on the PATH; install one, or build on another machine"
    )


def _silence(command: Sequence[str]) -> str | None:
    """Why an engine does not answer; None if it does."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "no answer in time" if isinstance(error, subprocess.TimeoutExpired) else str(error.strerror)
    return _reason(done.stderr) if done.returncode else None


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "without a reason"
