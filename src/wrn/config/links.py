"""config.yaml and configs/ at the root of a clone: links to the package's own files, the ones that count.

The recipes live in the package so that src/ alone is complete. A tool may put a file in the place of a link (`sed -i`
does), and then its settings would be ignored without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wrn.filesystem import is_dir, is_file


def replaced_links(package: Path) -> list[str]:
    """A sentence for each file at the root of the clone that is not what the package has. Elsewhere nothing is looked
    at. A checkout without symbolic links (git on Windows) has a text file with the link's target: that is none."""
    source, clone = package.parent, package.parents[1]
    if source.name != "src" or not is_file(clone / "pyproject.toml"):
        return []
    problems = []
    for name in _files(clone):
        ours = package / "recipes" / name
        place = f"src/wrn/recipes/{name}"
        if not is_file(ours) or _content(clone / name) not in (_content(ours), place.encode()):
            problems.append(
                f"{name}: is no link to {place} any more and would be ignored; move it to {place}, then restore the "
                f"link: git checkout -- {name.partition('/')[0]}"
            )
    return problems


def _files(clone: Path) -> Iterator[str]:
    if is_file(clone / "config.yaml") and not (clone / "config.yaml").is_symlink():
        yield "config.yaml"
    if is_dir(clone / "configs") and not (clone / "configs").is_symlink():
        yield from (f"configs/{path.name}" for path in sorted((clone / "configs").glob("*.y*ml")))


def _content(path: Path) -> bytes:
    """Without the line endings of Windows."""
    try:
        return path.read_bytes().replace(b"\r\n", b"\n").strip()
    except OSError:
        return b""
