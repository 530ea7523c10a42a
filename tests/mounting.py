"""May this test mount a file system of its own?"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def may_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0
