"""How an option is declared: the field of a dataclass, with what a person is told of it on a command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from medrestore.errors import ConfigError
from medrestore.options.parse import PLUGIN_NAME, names_a_plugin

_KEY = "option"

REQUIRED: Any = object()
"""Stands for the default of an option that has none."""


@dataclass(frozen=True)
class OptionInfo:
    """What a command line shows of an option.

    Attributes:
        help: What it is for, in a few words.
        panel: Heading that it stands under; empty for none.
        metavar: What its value looks like; None for what its type says.
        flag: Its name where that is not the field's.
        shared: Whether every verb that restores has it, and not `restore` alone.
        short: Short names of it, such as ``-q``.
    """

    help: str
    panel: str = ""
    metavar: str | None = None
    flag: str | None = None
    shared: bool = True
    short: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeclaredOption:
    """A field that is an option.

    Attributes:
        name: Of the field.
        kind: Type of its value on a command line.
        default: Of the field; `REQUIRED` where it has none.
        info: What is shown of it.
        choices: The values that it may have, and `PLUGIN_NAME` where those of plugins are among them; empty
            where there are more.
    """

    name: str
    kind: Any
    default: Any
    info: OptionInfo
    choices: tuple[str, ...]


def option(default: Any, info: OptionInfo) -> Any:
    """Return a field of a dataclass that is an option; `REQUIRED` makes one that must be given.

    Its type is that of the default, as that of `dataclasses.field` is.
    """
    metadata = {_KEY: info}
    return field(metadata=metadata) if default is REQUIRED else field(default=default, metadata=metadata)


def declared_options(kind: type) -> Iterator[DeclaredOption]:
    """Yield the options among the fields of a dataclass, in their order."""
    hints = get_type_hints(kind)
    for item in fields(kind):
        info = item.metadata.get(_KEY)
        if info is not None:
            yield _declared(item, hints[item.name], info)


def check_choices(options: object) -> None:
    """Check every field whose type lists its values; where it is any text too, that is ``plugin/name``.

    Raises:
        ConfigError: A value is none of these.
    """
    hints = get_type_hints(type(options))
    for item in fields(options):  # type: ignore[arg-type]
        hint, value = hints[item.name], getattr(options, item.name)
        allowed, is_open = _choices(hint), _takes_plugins(hint)
        fine = value in allowed or (value is None and _is_optional(hint))
        if allowed and not fine and not (is_open and names_a_plugin(value)):
            known = ", ".join(map(str, allowed)) + (", or plugin/name" if is_open else "")
            raise ConfigError(f"{item.name} is {value!r}; expected one of {known}")


def _declared(item: Field[Any], hint: Any, info: OptionInfo) -> DeclaredOption:
    choices = (*map(str, _choices(hint)), *((PLUGIN_NAME,) if _takes_plugins(hint) else ()))
    parts = [part for part in _parts(hint) if part is not NoneType]
    plain = [str if get_origin(part) is Literal and not _are_numbers(part) else part for part in parts]
    kind = str if str in plain else int if get_origin(plain[0]) is Literal else plain[0]
    return DeclaredOption(
        item.name,
        kind | None if _is_optional(hint) else kind,
        REQUIRED if item.default is MISSING else item.default,
        info,
        choices,
    )


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)


def _is_optional(hint: Any) -> bool:
    return NoneType in _parts(hint)


def _choices(hint: Any) -> tuple[Any, ...]:
    return tuple(value for part in _parts(hint) if get_origin(part) is Literal for value in get_args(part))


def _takes_plugins(hint: Any) -> bool:
    """Tell whether a type lists its values and takes the names of what plugins declare beside them."""
    return str in _parts(hint) and bool(_choices(hint))


def _are_numbers(hint: Any) -> bool:
    return all(isinstance(value, int) for value in get_args(hint))
