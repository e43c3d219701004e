"""Phones as people read them: names instead of ids, word positions taken together, silence marked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.transitions import TransitionModel

POSITION = re.compile(r"_[BIES]$")
# Names that silence and noise have in Kaldi's recipes, without case and brackets.
SILENCE_NAMES = {"sil", "spn", "nsn", "lau", "silence", "noise", "laughter", "vn", "oov"}


@dataclass(frozen=True)
class PhoneSet:
    """The phones of a transition model, those that differ by word position alone being one.

    Attributes:
        names: of each group.
        group_of: int64 [num_phones + 1], the group of each phone id; -1 for ids that the model does not use.
        silence: bool [number of groups].
    """

    names: list[str]
    group_of: NDArray[np.int64]
    silence: NDArray[np.bool_]

    @classmethod
    def make(
        cls, model: TransitionModel, symbols: SymbolTable | None, silence_phones: Collection[int] | None = None
    ) -> PhoneSet:
        """Group the phones of `model`.

        Args:
            model: of the alignments.
            symbols: phones.txt; without it phones are called by their ids.
            silence_phones: ids of silence phones; by default those with a customary name, as SIL and SPN.

        Raises:
            DataError: a phone of the model has no symbol.
        """
        used = sorted({int(phone) for phone in model.tuples[:, 0]})
        name_of = {phone: POSITION.sub("", _symbol(symbols, phone)) for phone in used}
        names = list(dict.fromkeys(name_of.values()))
        group_of = np.full(model.num_phones + 1, -1, dtype=np.int64)
        silence = np.zeros(len(names), dtype=bool)
        for phone, name in name_of.items():
            group_of[phone] = names.index(name)
            is_silence = phone in silence_phones if silence_phones is not None else _sounds_silent(name)
            silence[group_of[phone]] |= is_silence
        return cls(names, group_of, silence)

    def phones_of(self, model: TransitionModel, alignment: NDArray[np.int32]) -> NDArray[np.int64]:
        """The group of each frame of an alignment."""
        return self.group_of[model.phone_of[alignment]]

    def phone_of_pdf(self, model: TransitionModel, alignments: Iterable[NDArray[np.int32]]) -> NDArray[np.float64]:
        """How probable each phone is given a pdf: [num_pdfs, number of groups], rows sum to one.

        A pdf that several phones share is divided as its frames in `alignments` are; one without frames there evenly.
        """
        counts = np.zeros((model.num_pdfs, len(self.names)))
        for alignment in alignments:
            np.add.at(counts, (model.pdf_of[alignment], self.phones_of(model, alignment)), 1)
        for phone, _, forward, self_loop in model.tuples:
            for pdf in {int(forward), int(self_loop)} - {-1}:
                counts[pdf, self.group_of[phone]] += 1e-3
        totals = counts.sum(axis=1, keepdims=True)
        return np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)


def read_silence_phones(text: str) -> set[int]:
    """Colon-separated phone ids, as in Kaldi's silence.csl.

    Raises:
        DataError: anything else.
    """
    try:
        return {int(item) for item in text.strip().split(":") if item}
    except ValueError as error:
        raise DataError(f"{text.strip()!r} is no colon-separated list of phone ids") from error


def find_symbols(*folders: str | Path | None) -> SymbolTable | None:
    """The phones.txt in the first folder that has one."""
    for folder in folders:
        if folder and (path := Path(folder) / "phones.txt").is_file():
            return SymbolTable.read(path)
    return None


def _symbol(symbols: SymbolTable | None, phone: int) -> str:
    if symbols is None:
        return str(phone)
    if phone not in symbols.symbol_of:
        raise DataError(f"phones.txt has no phone with id {phone}", remedy="use the phones.txt of the alignments")
    return symbols.symbol_of[phone]


def _sounds_silent(name: str) -> bool:
    return name.strip("<>[]!").lower() in SILENCE_NAMES
