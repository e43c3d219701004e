"""Symbol tables: `words.txt`, `phones.txt`, lines of a symbol and its id (OpenFst's text form)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from acoustic.errors import DataError
from acoustic.kaldi.basic import check_token
from acoustic.kaldi.sinks import open_writer
from acoustic.kaldi.specifiers import read_pairs


@dataclass(frozen=True)
class SymbolTable:
    """Symbols and their ids, one to one.

    Args:
        id_of: id of each symbol; ids are not negative, 0 is `<eps>` by custom.
    """

    id_of: dict[str, int]
    symbol_of: dict[int, str] = field(init=False)
    """Symbol of each id."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbol_of", {id_: symbol for symbol, id_ in self.id_of.items()})
        if len(self.symbol_of) != len(self.id_of):
            raise DataError("two symbols of a symbol table have one id")

    def __len__(self) -> int:
        return len(self.id_of)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self.id_of

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a symbol table.

        Raises:
            DataError: a line is malformed, or a symbol or id comes twice; the line is named.
        """
        id_of: dict[str, int] = {}
        ids: set[int] = set()
        for line, symbol, rest in read_pairs(path):
            if not (rest.isascii() and rest.isdigit() and len(rest) <= 10 and int(rest) < 2**31):
                raise DataError(f"expected a symbol and its id, found {symbol} {rest}", path=path, line=line)
            if symbol in id_of or int(rest) in ids:
                twice = f"symbol {symbol}" if symbol in id_of else f"id {rest}"
                raise DataError(f"{twice} comes twice", path=path, line=line, remedy="rebuild the lang directory")
            id_of[symbol] = int(rest)
            ids.add(int(rest))
        return cls(id_of)

    def write(self, path: str | Path) -> None:
        """Write the table, in the order of the ids."""
        lines = (f"{check_token(self.symbol_of[id_])} {id_}\n" for id_ in sorted(self.symbol_of))
        with open_writer(path) as file:
            file.write("".join(lines).encode())
