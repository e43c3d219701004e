"""Whether files that mean phones and words by their ids mean the same ones, which nothing else would tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from acoustic.errors import DataError
from acoustic.kaldi.fst import FstArrays
from acoustic.kaldi.symbols import SymbolTable

RIGHT_LEXICON = "give the L.fst of the lang directory that the model was made with"


def check_phone_ids(tables: Mapping[Path, SymbolTable]) -> None:
    """Make sure that tables of phones agree on every id and phone that two of them have.

    Disambiguation symbols may differ, as they may where Kaldi compares such tables.

    Args:
        tables: by file, for messages.

    Raises:
        DataError: they do not.
    """
    known: dict[str | int, tuple[Path, str | int]] = {}
    for path, table in tables.items():
        for phone, phone_id in table.id_of.items():
            if phone.startswith("#"):
                continue
            for one, other in ((phone, phone_id), (phone_id, phone)):
                before, there = known.setdefault(one, (path, other))
                if there != other:
                    raise DataError(
                        f"{one} is {other} here, {there} in {before}",
                        path=path,
                        remedy="use files of one lang directory",
                    )


def check_same_phones(*folders: str | Path) -> None:
    """Make sure that the phones.txt of these folders agree; folders without one say nothing.

    Raises:
        DataError: they do not (utils/lang/check_phones_compatible.sh).
    """
    paths = dict.fromkeys(Path(folder) / "phones.txt" for folder in folders)
    check_phone_ids({path: SymbolTable.read(path) for path in paths if path.is_file()})


def check_lexicon(
    path: str | Path,
    lexicon: FstArrays,
    phones: Collection[int],
    disambig: Collection[int] = (),
    words: SymbolTable | None = None,
) -> None:
    """Make sure that a transducer is a lexicon, of the phones of a model and of the words of a symbol table.

    Args:
        path: of the lexicon; phones.txt and words.txt beside it are looked at.
        lexicon: the transducer.
        phones: those of the model's topology.
        disambig: the lexicon's disambiguation symbols that are phones' ids, too.
        words: of the transcripts, if these are words and not their ids.

    Raises:
        DataError: it is not.
    """
    phones_path, words_path = Path(path).parent / "phones.txt", Path(path).parent / "words.txt"
    if looks_like_grammar(lexicon) and not _words_are_phones(lexicon, phones_path, words_path):
        raise DataError("has the same ids on both sides, as a G.fst of words", path=path, remedy=RIGHT_LEXICON)
    unknown = np.setdiff1d(lexicon.arcs["ilabel"], [0, *phones, *disambig])
    if len(unknown):
        _raise_unknown_phone(path, phones_path, int(unknown[0]))
    if words is not None:
        _check_words(path, lexicon, words, words_path)


def looks_like_grammar(fst: FstArrays) -> bool:
    """Whether every word has its id on both sides, and what has no output is one symbol at most (#0 of a G.fst)."""
    is_word = fst.arcs["olabel"] != 0
    words, others = fst.arcs[is_word], fst.arcs[~is_word]
    return (
        len(words) > 0
        and bool(np.array_equal(words["ilabel"], words["olabel"]))
        and len(np.setdiff1d(others["ilabel"], [0])) <= 1
    )


def _words_are_phones(lexicon: FstArrays, phones_path: Path, words_path: Path) -> bool:
    """Whether the ids that both sides have stand for one symbol: the lexicon of a phone recogniser."""
    if not (phones_path.is_file() and words_path.is_file()):
        return False
    phones, words = SymbolTable.read(phones_path).symbol_of, SymbolTable.read(words_path).symbol_of
    labels = np.setdiff1d(lexicon.arcs["olabel"], [0]).tolist()
    return all(label in phones and phones[label] == words.get(label) for label in labels)


def _raise_unknown_phone(path: str | Path, phones_path: Path, phone: int) -> None:
    """Tell of an input symbol that is none of the model's phones."""
    name = SymbolTable.read(phones_path).symbol_of.get(phone) if phones_path.is_file() else None
    problem = f"has the input symbol {phone}{f' ({name})' if name else ''}, which is no phone of the model"
    if name and name.startswith("#"):
        raise DataError(problem, path=path, remedy="give L.fst, or phones/disambig.int by --read-disambig-syms")
    raise DataError(problem, path=path, remedy=RIGHT_LEXICON)


def _check_words(path: str | Path, lexicon: FstArrays, words: SymbolTable, own_path: Path) -> None:
    """Make sure that each word of the lexicon is in `words`, and there the word that it is in the table beside it."""
    own = SymbolTable.read(own_path) if own_path.is_file() else words
    remedy = "give the words.txt of its lang directory by --word-symbol-table"
    for word_id in np.setdiff1d(lexicon.arcs["olabel"], [0]).tolist():
        if word_id not in words.symbol_of:
            raise DataError(f"has the word {word_id}, which --word-symbol-table lacks", path=path, remedy=remedy)
        word, own_word = words.symbol_of[word_id], own.symbol_of.get(word_id)
        if own_word not in (None, word):
            problem = f"word {word_id} is {own_word} in {own_path}, {word} in --word-symbol-table"
            raise DataError(problem, path=path, remedy=remedy)
