"""A default never makes a given value an error: where two values exclude each other, the weaker one adapts.

Values come in levels: the schema's defaults, config.yaml, a recipe that ships with the program, and what a person gave,
as a flag or in a recipe file of their own. The value of the lower level changes, and one line says so. Two values of
the same level contradict each other: that is an error, and as the recipes that ship do not, only people meet it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wrn.config.conflicts import Values, conflicts
from wrn.config.schema import Config
from wrn.errors import ConfigError

MOST_CHANGES = 20
"""Far more than there are rules; adapting ends by itself, as each change resolves a conflict."""


@dataclass
class Adapted:
    """values: every key, after adapting. reasons: for each key that changed, the key that it adapted to.

    problems: a sentence for each conflict in which neither value may change.
    """

    values: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def adapt(levels: Sequence[Values], level_of: Mapping[str, int]) -> Adapted:
    """Values that fit together.

    levels: every key's value as of each level, the weakest first; the last is the one to adapt.
    level_of: the level that set a key's value.
    """
    found = Adapted(dict(levels[-1]))
    # A key that has adapted yields to what a person gave, but to nothing weaker than what it adapted to.
    strength: dict[str, float] = dict(level_of)
    for _ in range(MOST_CHANGES):
        found.problems = []
        for conflict in conflicts(found.values):
            weak, firm = sorted(conflict.keys, key=lambda key: strength[key])
            if strength[weak] < strength[firm] and weak in conflict.defaults:
                found.values[weak] = conflict.defaults[weak](levels[level_of[weak]])
                found.reasons[weak] = firm
                strength[weak] = max(strength[weak], strength[firm] - 0.5)
                break
            if conflict.problem:
                found.problems.append(conflict.problem)
        else:
            break
    return found


def instead(
    config: Config, key: str, value: Any, reason: str, problem: str, on_message: Callable[[str], None]
) -> Config:
    """The configuration with another value for a key that does not fit this machine or this data.

    on_message: receives the line about it. Raises ConfigError with the problem if a person gave the key.
    """
    if key in config.given:
        raise ConfigError(problem)
    on_message(change(key, getattr(config, key), value, reason))
    return config.adapted(**{key: value})


def change(key: str, before: Any, after: Any, reason: str) -> str:
    """The line that tells a user about a default that adapted."""
    return f"{key}: {word(after)} instead of {word(before)}, as {reason}"


def word(value: Any) -> str:
    """A value as in a configuration file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return f'"{text}"' if not text or " " in text else text
