"""Phone lists of a lang directory: positions in the word, tree roots, questions, word boundaries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from acoustic.decode.lang_dict import Dictionary, Pronunciation
from acoustic.errors import DataError

POSITIONS = ("_B", "_E", "_I", "_S")
BOUNDARY_OF = {"_B": "begin", "_E": "end", "_I": "internal", "_S": "singleton"}


@dataclass(frozen=True)
class LangPhones:
    """Every phone of the system, by name, in the order of its integer id, and the lists made of them.

    Attributes:
        silence, nonsilence: the phones; their ids run from 1 in this order.
        sets: phones counted as one when questions are made automatically.
        roots: one line of roots.txt for each tree root: sharing, splitting, phones.
        extra_questions: the dictionary's questions, as lists of phones.
        position_questions: questions on the position in the word, empty without word positions.
        word_boundary: (phone, begin | end | internal | singleton | nonword), empty without word positions.
    """

    silence: list[str]
    nonsilence: list[str]
    sets: list[list[str]]
    roots: list[list[str]]
    extra_questions: list[list[str]]
    position_questions: list[list[str]]
    word_boundary: list[tuple[str, str]]


def make_phones(dictionary: Dictionary, position_dependent: bool, share_silence: bool) -> LangPhones:
    """Expand the dictionary's phones into the system's (prepare_lang.sh).

    Args:
        position_dependent: give each phone a variant for each position in the word; silence phones also keep the
            plain form, which is the optional silence between words.
        share_silence: all silence phones share their pdfs (one tree root, never split) and differ in transitions.
    """
    variants = phone_variants(dictionary, position_dependent)

    def expand(phones: Iterable[str]) -> list[str]:
        return [variant for phone in phones for variant in variants[phone]]

    silence = flatten(dictionary.silence_phones)
    nonsilence = flatten(dictionary.nonsilence_phones)
    silence_sets = [silence] if share_silence else dictionary.silence_phones
    sets = [expand(phones) for phones in [*silence_sets, *dictionary.nonsilence_phones]]
    roots = [["shared", "split", *phones] for phones in sets]
    if share_silence:
        roots[0][:2] = ["not-shared", "not-split"]
    position_questions = []
    if position_dependent:
        position_questions += [[phone + position for phone in nonsilence] for position in POSITIONS]
        position_questions += [[phone + position for phone in silence] for position in ("", *POSITIONS)]
    return LangPhones(
        silence=expand(silence),
        nonsilence=expand(nonsilence),
        sets=sets,
        roots=roots,
        extra_questions=[expand(phones) for phones in dictionary.extra_questions],
        position_questions=position_questions,
        word_boundary=(
            [(phone, boundary_type(phone)) for phone in expand([*silence, *nonsilence])]
            if position_dependent
            else dictionary.word_boundary
        ),
    )


def check_word_boundary(phones: LangPhones, path: Path) -> None:
    """DataError unless word_boundary.txt, made elsewhere, has each phone once, in a position there is."""
    positions = (*BOUNDARY_OF.values(), "nonword")
    wrong = [position for _, position in phones.word_boundary if position not in positions]
    if wrong:
        raise DataError(f"{wrong[0]} is none of {', '.join(positions)}", path=path)
    listed = Counter(phone for phone, _ in phones.word_boundary)
    differing = Counter([*phones.silence, *phones.nonsilence])
    differing = (differing - listed) + (listed - differing)
    if listed and differing:
        raise DataError(
            f"phone {min(differing)} is not in both this file, once, and the lists of phones",
            path=path,
            remedy="make it for these phones, or remove it",
        )


def phone_variants(dictionary: Dictionary, position_dependent: bool) -> dict[str, list[str]]:
    """Map each phone of the dictionary to the system's phones it stands for."""
    silence, nonsilence = flatten(dictionary.silence_phones), flatten(dictionary.nonsilence_phones)
    if not position_dependent:
        return {phone: [phone] for phone in [*silence, *nonsilence]}
    variants = {phone: [phone, *(phone + position for position in POSITIONS)] for phone in silence}
    variants.update({phone: [phone + position for position in POSITIONS] for phone in nonsilence})
    return variants


def flatten(lists: Iterable[Iterable[str]]) -> list[str]:
    """All members of the lists, in order."""
    return [item for members in lists for item in members]


def boundary_type(phone: str) -> str:
    """A phone's entry in word_boundary.txt, from its suffix."""
    return BOUNDARY_OF.get(phone[-2:], "nonword")


def mark_positions(pronunciation: Pronunciation) -> Pronunciation:
    """Give the phones of a pronunciation their word-position suffixes."""
    phones = pronunciation.phones
    if len(phones) == 1:
        return replace(pronunciation, phones=(phones[0] + "_S",))
    inner = tuple(phone + "_I" for phone in phones[1:-1])
    return replace(pronunciation, phones=(phones[0] + "_B", *inner, phones[-1] + "_E"))
