"""Configuration files: YAML in sections (`training:` and below it `epochs: 100`), flat, or both.

Keys are unique, so the sections are for the reader: a key means the same in any section, or in none.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wrn.config.schema import ALIASES, SECTIONS, Config
from wrn.errors import ConfigError
from wrn.text import shown

SECTION_NAMES = tuple(section.name for section in SECTIONS)

REMARK_COLUMN = 40
"""Remarks beside longer lines follow them directly."""


@dataclass(frozen=True)
class Entry:
    """A key as it was written, the section it was in (or ""), and its value."""

    section: str
    key: str
    value: Any

    @property
    def path(self) -> str:
        return f"{self.section}.{self.key}" if self.section else self.key


def read_mapping(path: Path) -> dict[str, Any]:
    """What a YAML file holds. Raises ConfigError if the file cannot be read or is not a mapping."""
    try:
        values = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give a readable YAML file") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not readable"
        problem = "a tab; YAML needs spaces" if "'\\t'" in problem else problem
        whole = "line" if line else "file"
        raise ConfigError(f"{path}{line}: is not valid YAML ({problem}); fix that {whole}") from None
    except RecursionError:
        raise ConfigError(f'{path}: is nested too deeply; it must hold "key: value" lines') from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: must hold "key: value" lines, but holds {shown(values)}')
    return {str(key): value for key, value in values.items()}


class _Loader(yaml.SafeLoader):
    """Keeps values as text, so that they mean the same as in a flag: YAML reads 010 as 8, 1:30 as 90, no as false.

    Rejects duplicate keys, where YAML's own loader silently takes the last.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as YAML's own
        first: [(tag, form) for tag, form in forms if tag.endswith((":null", ":merge"))]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = canonical(str(key.value))
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name} is set twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def entries(values: Mapping[str, Any], origin: str) -> tuple[list[Entry], list[str]]:
    """The keys of a file or of flags, whether in a section or not, and a line per problem.

    origin: what a problem calls the place that the values come from. The keys may be unknown, but none is there twice.
    """
    found: list[Entry] = []
    problems = []
    for name, value in values.items():
        if canonical(name) in SECTION_NAMES:
            if isinstance(value, Mapping):
                found += [Entry(name, str(key), inner) for key, inner in value.items()]
            elif value is not None:
                problems.append(f"{name} ({origin}): is a section, not a key; give the keys of {name} below it")
        elif isinstance(value, Mapping):
            hint = nearest(name, SECTION_NAMES) or f"; choose from {', '.join(SECTION_NAMES)}"
            problems.append(f"{name} ({origin}): is not a section{hint}")
            found += [Entry(name, str(key), inner) for key, inner in value.items()]
        else:
            found.append(Entry("", name, value))
    first: dict[str, Entry] = {}
    for entry in found:
        earlier = first.setdefault(canonical(entry.key), entry)
        if earlier is not entry:
            problems.append(f"{entry.path} ({origin}): is set twice, also as {earlier.path}; remove one of the two")
    return list(first.values()), problems


def to_yaml(config: Config, remarks: Mapping[str, str] | None = None) -> str:
    """A configuration as a file that `--recipe` takes, with a remark beside each key if there are any."""
    values = config.model_dump(mode="json")
    lines: list[tuple[str, str]] = []
    for section in SECTIONS:
        lines.append((f"{section.name}:", ""))
        lines += [(f"  {key}: {_scalar(values[key])}", (remarks or {}).get(key, "")) for key in section.model_fields]
    width = min(max(len(line) for line, _ in lines), REMARK_COLUMN)
    return "".join(f"{line.ljust(width)}  # {remark}\n" if remark else f"{line}\n" for line, remark in lines)


def _scalar(value: Any) -> str:
    """A value in YAML, on one line."""
    quotes = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(value, default_style=quotes, allow_unicode=not quotes, width=1_000_000)
    return text.splitlines()[0]  # without YAML's end of a document


def canonical(key: str) -> str:
    """The schema's name of a key: hyphens and aliases resolved."""
    key = key.strip().replace("-", "_")
    return ALIASES.get(key, key)


def nearest(word: str, known: Sequence[str]) -> str:
    """`"; did you mean X?"` if a known word is close, else nothing."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
