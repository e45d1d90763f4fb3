"""Owns where a command's options come from: the command line, the environment, a TOML file, and their defaults.

The options' own definitions (`argparse`, or the fields of a dataclass) say what there is, of what type, and what is
allowed: there is no second list.
"""

from __future__ import annotations

import argparse
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from .errors import InputError

PREFIX = "STREAMING_ASR_"
CLIENTS_VARIABLES = {f"{PREFIX}KEY"}
MISSPELT = 0.75  # how alike two names are (`difflib`) of which one is meant for the other
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

T = TypeVar("T")


def add_fields(parser: argparse._ActionsContainer, kind: type[Any]) -> None:
    """An option for each field of the dataclass ``kind`` whose metadata have ``help``, and how its value is called."""
    types = get_type_hints(kind)
    for each in _fields(kind):
        flag, help, metavar = f"--{each.name.replace('_', '-')}", each.metadata["help"], each.metadata["metavar"]
        value_type, *_ = get_args(types[each.name]) or [types[each.name]]  # an item's of a list; without "| None"
        if value_type is bool:
            parser.add_argument(flag, action="store_true", help=help)
        elif isinstance(each.default, tuple):
            parser.add_argument(flag, type=value_type, action="append", default=[], metavar=metavar, help=help)
        else:
            parser.add_argument(flag, type=value_type, default=each.default, metavar=metavar, help=help)


def read_fields(options: argparse.Namespace, kind: type[T], **others: Any) -> T:
    """A ``kind`` whose fields are those of ``options`` that `add_fields` made of them, and ``others``."""
    return kind(**{each.name: getattr(options, each.name) for each in _fields(kind)}, **others)


def _fields(kind: Any) -> list[Field[Any]]:
    return [each for each in fields(kind) if "help" in each.metadata]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The two options of the settings themselves."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"TOML with any of these options; the environment ({PREFIX}PORT=…) and the command line override it",
    )
    parser.add_argument("--print-config", action="store_true", help="print what all of them come to, as TOML, and end")


def parse(
    parser: argparse.ArgumentParser,
    command: argparse.ArgumentParser,
    arguments: Sequence[str],
    environment: Mapping[str, str],
) -> argparse.Namespace:
    """Parses ``arguments``, with what the environment and the file say in place of the defaults of ``command``.

    :raises InputError: a variable or a key cannot be used, or the file cannot be read.
    """
    given = parser.parse_args(arguments)
    actions = _actions(command)
    _check_names(actions, environment)
    from_environment = {
        name: _from_text(action, environment[variable], variable)
        for name, action in actions.items()
        if environment.get(variable := PREFIX + name.upper())  # an empty one is none, as Compose passes them on
    }
    named = environment.get(f"{PREFIX}CONFIG")
    path = given.config or (Path(named) if named else None)
    from_file = {} if path is None else _from_file(actions, path)
    defaults = {name: action.default for name, action in actions.items()}
    command.set_defaults(**{**from_file, **from_environment})
    options = parser.parse_args(arguments)
    command.set_defaults(**defaults)
    for name, action in actions.items():  # a list that is given replaces the one in the file
        if isinstance(action.default, list) and getattr(given, name) != action.default:
            setattr(options, name, getattr(given, name))
    return options


def to_toml(command: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """All options of ``command`` with their values; those without one as a comment."""
    lines = []
    for name in _actions(command):
        value = getattr(options, name)
        key = name.replace("_", "-")
        lines.append(f"# {key} =" if value is None else f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _actions(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Options by their attribute; of several for one attribute the first."""
    found: dict[str, argparse.Action] = {}
    for action in command._actions:  # argparse has no public way to list them
        if action.option_strings and action.dest not in ("help", "config", "print_config"):
            found.setdefault(action.dest, action)
    return found


def _check_names(actions: Mapping[str, argparse.Action], environment: Mapping[str, str]) -> None:
    """Refuses a variable that looks like a misspelt option. Others may mean something to others, as in Kubernetes."""
    known = {PREFIX + name.upper() for name in (*actions, "config")} | CLIENTS_VARIABLES
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in known:
            name = variable.removeprefix(PREFIX).lower()
            if close := difflib.get_close_matches(name, actions, n=1, cutoff=MISSPELT):
                raise InputError(f"there is no option {variable}; did you mean {PREFIX}{close[0].upper()}?")


def _from_file(actions: Mapping[str, argparse.Action], path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    values = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in actions:
            close = difflib.get_close_matches(name, actions, n=1)
            hint = f"; did you mean {close[0].replace('_', '-')}?" if close else ""
            raise InputError(f"{path}: there is no option {key}{hint}")
        values[name] = _checked(actions[name], value, f"{path}: {key}")
    return values


def _checked(action: argparse.Action, value: object, where: str) -> Any:
    if isinstance(action, argparse._StoreTrueAction):
        if not isinstance(value, bool):
            raise InputError(f"{where} must be true or false")
        return value
    if isinstance(action.default, list):
        if not isinstance(value, list):
            raise InputError(f"{where} must be a list")
        return [_converted(action, item, where) for item in value]
    return _converted(action, value, where)


def _converted(action: argparse.Action, value: object, where: str) -> Any:
    kind: Any = action.type or str
    fits = isinstance(value, (int, float) if kind is float else int if kind is int else str)
    if isinstance(value, bool) or not fits:
        words = {int: "a whole number", float: "a number"}
        raise InputError(f"{where} must be {words.get(kind, 'a string')}")
    converted = kind(value)
    if action.choices is not None and converted not in action.choices:
        raise InputError(f"{where} must be one of {', '.join(map(str, action.choices))}")
    return converted


def _from_text(action: argparse.Action, text: str, where: str) -> Any:
    if isinstance(action, argparse._StoreTrueAction):
        if text.lower() not in YES + NO:
            raise InputError(f"{where} must be one of {', '.join(YES + NO)}")
        return text.lower() in YES
    if isinstance(action.default, list):
        return [_converted(action, item.strip(), where) for item in text.split(",") if item.strip()]
    kind: Any = action.type
    try:
        value = kind(text) if kind in (int, float) else text
    except ValueError as error:
        raise InputError(f"{where} must be a{' whole' if kind is int else ''} number") from error
    return _converted(action, value, where)


def _toml(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)  # TOML's strings, numbers, booleans and lists of them are JSON's
