"""Model names and their arguments, without torch: what a charter may ask for.

`networks.py` builds what is named here. A name is added here together with its schema; unknown names,
unknown arguments and values outside the ranges are refused when the charter is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]


def _channels(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and 2 <= len(value) <= 6
        and all(isinstance(item, int) and 1 <= item <= 512 for item in value)
    )


def _between(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


_NORM: Check = lambda value: value in ("instance", "group")  # noqa: E731

SCHEMAS: Mapping[str, Mapping[str, tuple[Any, Check, str]]] = {
    "unet": {
        "channels": ((16, 32, 64, 128), _channels, "2–6 whole numbers from 1 to 512"),
        "residual_units": (1, _between(0, 4), "a whole number from 0 to 4"),
        "norm": ("instance", _NORM, "'instance' or 'group'"),
    },
    "segresnet": {
        "filters": (16, _between(4, 64), "a whole number from 4 to 64"),
        "norm": ("group", _NORM, "'instance' or 'group'"),
    },
    "toy": {
        "size": (1000, _between(8, 50_000_000), "a whole number from 8 to 50,000,000"),
    },
}
"""name → argument → (default, check, rule in words). `toy` is a numpy quadratic for tests of the path."""


def check_model(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise `ValueError` naming the model, the argument, the value and the rule if one is broken."""
    if name not in SCHEMAS:
        raise ValueError(f"model {name!r} is not in the registry: choose one of {', '.join(SCHEMAS)}")
    for key, value in arguments.items():
        if key not in SCHEMAS[name]:
            raise ValueError(f"model {name}: unknown argument {key!r}; known: {', '.join(SCHEMAS[name])}")
        _, check, rule = SCHEMAS[name][key]
        if not check(value):
            raise ValueError(f"model {name}: {key} must be {rule}, got {value!r}")


def with_defaults(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with every default filled in; checks as `check_model` does."""
    check_model(name, arguments)
    return {key: arguments.get(key, default) for key, (default, _, _) in SCHEMAS[name].items()}
