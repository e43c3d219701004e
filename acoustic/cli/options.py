"""Kaldi-style command lines: `--name=value` options made from a dataclass, and `--config=FILE` holding such lines."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from acoustic.errors import ConfigError

T = TypeVar("T")

TRUE, FALSE = ("true", "t", "1"), ("false", "f", "0")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are ConfigErrors."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise ConfigError instead of printing the usage and leaving."""
        words = message.removeprefix("unrecognized arguments: ")
        takes_any = any(action.nargs == "*" and not action.option_strings for action in self._actions)
        if words != message and not words.startswith("-") and takes_any:  # but argparse not those behind an option
            message += "; options stand before or behind the other arguments, not among them"
        raise ConfigError(f"{self.prog}: {message} ({self.prog} --help shows an example)")

    def parse_args(self, args: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """Parse, with `--flag FILE` meaning `--flag=true FILE`: argparse would take the file as the flag's value."""
        flags = {name for action in self._actions if action.type is parse_bool for name in action.option_strings}
        following = [*args, ""][1:]
        alone = [a in flags and b.lower() not in (*TRUE, *FALSE) for a, b in zip(args, following, strict=True)]
        return super().parse_args([f"{a}=true" if bare else a for a, bare in zip(args, alone, strict=True)])


def parse_bool(text: str) -> bool:
    """`true` or `false`, in Kaldi's spellings."""
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def parse_share(text: str) -> float:
    """A share of a whole, such as of utterances that may be lost: a number between 0 and 1."""
    with contextlib.suppress(ValueError):
        if 0.0 <= float(text) <= 1.0:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and 1")


def _value_type(annotation: Any) -> Callable[[str], Any]:
    """The function that parses an option's text, from the field's type (`X | None` counts as X)."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return parse_bool if annotation is bool else annotation


def add_dataclass_options(parser: argparse.ArgumentParser, owner: type, group: str | None = None) -> None:
    """Add one `--option-name` for each field of the dataclass `owner`, with its default.

    A field's help text is its metadata entry `help`.
    """
    hints = typing.get_type_hints(owner)
    target = parser.add_argument_group(group) if group else parser
    for field in dataclasses.fields(owner):
        kind = _value_type(hints[field.name])
        shown = str(field.default).lower() if kind is parse_bool else field.default
        option = target.add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=field.name,
            type=kind,
            default=field.default,
            help=f"{field.metadata.get('help', '')} (default: {shown})",
        )
        if kind is parse_bool:  # `--flag` alone means true, as in Kaldi
            option.nargs, option.const = "?", True


def dataclass_from_args(owner: type[T], args: argparse.Namespace) -> T:
    """Build the dataclass from parsed options; its own ValueError on a bad value becomes a ConfigError."""
    try:
        return owner(**{field.name: getattr(args, field.name) for field in dataclasses.fields(owner)})  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(str(error)) from error


def read_config_option(argv: Sequence[str]) -> list[str]:
    """Replace `--config=FILE` by the options in FILE, one `--name=value` a line, `#` starting a comment.

    They are put first, so that the command line's own options win (as in Kaldi's ParseOptions).

    Raises:
        ConfigError: the file is missing or holds anything but options.
    """
    from_files: list[str] = []
    rest: list[str] = []
    for argument in argv:
        if not argument.startswith("--config="):
            rest.append(argument)
            continue
        path = argument.removeprefix("--config=")
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--config={path}: cannot be read ({error})") from error
        for number, line in enumerate(lines, 1):
            option = line.split("#", 1)[0].strip()
            if option and not option.startswith("--"):
                raise ConfigError(f"{path}, line {number}: expected --option=value, found {option!r}")
            if option:
                from_files.append(option)
    return from_files + rest
