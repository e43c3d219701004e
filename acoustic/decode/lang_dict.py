"""The dictionary directory a lang directory is made from: lexicon, silence and nonsilence phones, extra questions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acoustic.decode.lang_text import read_fields
from acoustic.errors import DataError

FORBIDDEN_WORDS = ("<eps>", "<s>", "</s>", "#0")
# Phones written like this would be taken for disambiguation symbols, word positions or epsilon.
FORBIDDEN_PHONE = re.compile(r"#|.*_[BEIS]$|<eps>$")


@dataclass(frozen=True)
class WordSilence:
    """How likely silence is around one pronunciation (columns 3 to 5 of lexiconp_silprob.txt).

    `prob_after` is P(silence follows); the corrections multiply the word's probability when the word itself comes
    after silence or after another word.
    """

    prob_after: float
    correction_after_silence: float
    correction_after_word: float


@dataclass(frozen=True)
class SilenceModel:
    """Silence at the edges of an utterance (silprob.txt): P(silence first), corrections for ending in it or not."""

    prob_initial: float
    correction_final_silence: float
    correction_final_word: float


@dataclass(frozen=True)
class Pronunciation:
    """One line of the lexicon: a word, the probability of this pronunciation, its phones."""

    word: str
    prob: float
    phones: tuple[str, ...]
    silence: WordSilence | None = None


@dataclass(frozen=True)
class Dictionary:
    """A checked dictionary directory, as Kaldi's validate_dict_dir.pl demands it.

    Attributes:
        lexicon: pronunciations in the file's order.
        silence_phones, nonsilence_phones: one list of phones for each line; the phones of a line are variants
            (stress, tone) of one base phone and share a root of the decision tree.
        optional_silence: the phone the lexicon allows between words.
        extra_questions: lists of phones, questions for growing the tree.
        silence_model: silprob.txt, when the lexicon came from lexiconp_silprob.txt.
        word_boundary: (phone, position) lines of word_boundary.txt, empty when there is no such file.
    """

    lexicon: list[Pronunciation]
    silence_phones: list[list[str]]
    nonsilence_phones: list[list[str]]
    optional_silence: str
    extra_questions: list[list[str]]
    silence_model: SilenceModel | None
    word_boundary: list[tuple[str, str]]

    @classmethod
    def read(cls, path: str | Path) -> Dictionary:
        """Read `path`: lexiconp_silprob.txt (with silprob.txt), else lexiconp.txt, else lexicon.txt, and phone lists.

        Raises:
            DataError: a file is missing, empty or ill-formed, phones or words clash or are unknown.
        """
        path = Path(path)
        if (path / "nonterminals.txt").exists():
            raise DataError(
                "grammars with nonterminals are not supported", path=path / "nonterminals.txt", remedy="remove the file"
            )
        silence = read_phone_lists(path / "silence_phones.txt")
        nonsilence = read_phone_lists(path / "nonsilence_phones.txt")
        phones = check_disjoint(path, silence, nonsilence)
        questions_path = path / "extra_questions.txt"
        questions = read_questions(questions_path, phones) if questions_path.exists() else []
        check_distinguishable(path / "nonsilence_phones.txt", nonsilence, questions)
        lexicon, silence_model = read_dictionary_lexicon(path, phones)
        return cls(
            lexicon=lexicon,
            silence_phones=silence,
            nonsilence_phones=nonsilence,
            optional_silence=read_optional_silence(path / "optional_silence.txt", silence),
            extra_questions=questions,
            silence_model=silence_model,
            word_boundary=read_word_boundary(path / "word_boundary.txt"),
        )


def read_phone_lists(path: Path) -> list[list[str]]:
    """Read silence_phones.txt or nonsilence_phones.txt: lists of phones, none twice."""
    lists, seen = [], set[str]()
    for number, phones in read_fields(path):
        for phone in phones:
            if FORBIDDEN_PHONE.match(phone):
                raise DataError(f"phone {phone} may not be written so", path=path, line=number)
            if phone in seen:
                raise DataError(f"phone {phone} appears twice", path=path, line=number)
            seen.add(phone)
        lists.append(phones)
    if not lists:
        raise DataError("is empty", path=path)
    return lists


def check_disjoint(path: Path, silence: list[list[str]], nonsilence: list[list[str]]) -> set[str]:
    """Return all phones; DataError when one is both silence and nonsilence."""
    silence_set = {phone for phones in silence for phone in phones}
    nonsilence_set = {phone for phones in nonsilence for phone in phones}
    both = sorted(silence_set & nonsilence_set)
    if both:
        raise DataError(f"phones {' '.join(both)} are in both silence_phones.txt and nonsilence_phones.txt", path=path)
    return silence_set | nonsilence_set


def read_optional_silence(path: Path, silence: list[list[str]]) -> str:
    """Read optional_silence.txt: one phone, a silence phone."""
    lines = list(read_fields(path))
    if len(lines) != 1 or len(lines[0][1]) != 1:
        raise DataError("must hold exactly one phone", path=path)
    phone = lines[0][1][0]
    if not any(phone in phones for phones in silence):
        raise DataError(f"phone {phone} is not in silence_phones.txt", path=path, line=1)
    return phone


def read_questions(path: Path, phones: set[str]) -> list[list[str]]:
    """Read extra_questions.txt (may be empty)."""
    questions = []
    for number, question in read_fields(path):
        check_phones_known(question, phones, path, number)
        questions.append(question)
    return questions


def read_word_boundary(path: Path) -> list[tuple[str, str]]:
    """Read a word_boundary.txt made elsewhere, for phones that carry the position in their names; [] without one."""
    if not path.exists():
        return []
    pairs = []
    for number, fields in read_fields(path):
        if len(fields) != 2:
            raise DataError("expected a phone and its position in the word", path=path, line=number)
        pairs.append((fields[0], fields[1]))
    return pairs


def check_phones_known(phones: Sequence[str], known: set[str], path: Path, line: int) -> None:
    """DataError naming the first phone that the phone lists lack."""
    for phone in phones:
        if phone not in known:
            raise DataError(
                f"phone {phone} is in neither silence_phones.txt nor nonsilence_phones.txt", path=path, line=line
            )


def check_distinguishable(path: Path, nonsilence: list[list[str]], questions: list[list[str]]) -> None:
    """Phones of one line share a tree root: only an extra question can tell them apart, so one must."""
    sets = [set(question) for question in questions]
    for phones in nonsilence:
        answers: dict[tuple[bool, ...], str] = {}
        for phone in phones:
            twin = answers.setdefault(tuple(phone in question for question in sets), phone)
            if twin != phone:
                raise DataError(
                    f"phones {twin} and {phone} share a line, and no line of extra_questions.txt tells them apart",
                    path=path,
                    remedy="put them on lines of their own or add a question",
                )


def read_dictionary_lexicon(path: Path, phones: set[str]) -> tuple[list[Pronunciation], SilenceModel | None]:
    """Read the richest lexicon file of the directory; where there are several they must agree."""
    readers = {"lexicon.txt": 0, "lexiconp.txt": 1, "lexiconp_silprob.txt": 4}
    lexicons = {
        name: read_lexicon(path / name, phones, num_numbers)
        for name, num_numbers in readers.items()
        if (path / name).exists()
    }
    if not lexicons:
        raise DataError("has neither lexicon.txt nor lexiconp.txt", path=path)
    names = list(lexicons)
    for poorer, richer in itertools.pairwise(names):
        check_same_entries(path, poorer, lexicons[poorer], richer, lexicons[richer])
    silence_model = read_silence_model(path / "silprob.txt") if names[-1] == "lexiconp_silprob.txt" else None
    return lexicons[names[-1]], silence_model


def read_lexicon(path: Path, phones: set[str], num_numbers: int) -> list[Pronunciation]:
    """Read a lexicon whose lines are: word, `num_numbers` numbers (0, 1 or 4), phones."""
    lexicon, seen = [], set[tuple[str, ...]]()
    for number, fields in read_fields(path):
        word, pronunciation = fields[0], tuple(fields[1 + num_numbers :])
        if word in FORBIDDEN_WORDS:
            raise DataError(f"{word} may not be a word of the lexicon", path=path, line=number)
        if not pronunciation:
            raise DataError(f"word {word} has no pronunciation", path=path, line=number)
        check_phones_known(pronunciation, phones, path, number)
        if tuple(fields) in seen:
            raise DataError(f"the line of word {word} is repeated", path=path, line=number)
        seen.add(tuple(fields))
        numbers = [positive_number(field, path, number) for field in fields[1 : 1 + num_numbers]]
        # The pronunciation's probability, then P(silence after); what follows are corrections, which may exceed 1.
        if any(value > 1.0 for value in numbers[:2]):
            raise DataError(f"word {word} has a probability above 1", path=path, line=number)
        if num_numbers == 4 and numbers[1] == 1.0:
            raise DataError(f"word {word} can only be followed by silence", path=path, line=number)
        silence = WordSilence(*numbers[1:]) if num_numbers == 4 else None
        lexicon.append(Pronunciation(word, numbers[0] if numbers else 1.0, pronunciation, silence))
    if not lexicon:
        raise DataError("is empty", path=path)
    return lexicon


def positive_number(field: str, path: Path, line: int) -> float:
    """The number written in `field`; DataError unless it is above zero and finite."""
    try:
        value = float(field)
    except ValueError as error:
        raise DataError(f"expected a number, found {field!r}", path=path, line=line) from error
    if not 0.0 < value < float("inf"):
        raise DataError(f"expected a number above zero, found {field}", path=path, line=line)
    return value


def check_same_entries(
    path: Path, poorer: str, lexicon: list[Pronunciation], richer: str, other: list[Pronunciation]
) -> None:
    """Two lexicon files of one directory must list the same words and phones in the same order."""
    pairs = zip(lexicon, other, strict=False)
    same = [(a.word, a.phones) == (b.word, b.phones) for a, b in pairs]
    if len(lexicon) != len(other) or not all(same):
        line = same.index(False) + 1 if False in same else len(same) + 1
        raise DataError(f"differs from {richer}", path=path / poorer, line=line, remedy="remove the outdated one")


def read_silence_model(path: Path) -> SilenceModel:
    """Read silprob.txt: `<s>`, `</s>_s`, `</s>_n` and `overall` (which nothing uses), each with a number."""
    values: dict[str, float] = {}
    for number, fields in read_fields(path):
        if len(fields) != 2 or fields[0] not in ("<s>", "</s>_s", "</s>_n", "overall"):
            raise DataError("expected <s>, </s>_s, </s>_n or overall, and a number", path=path, line=number)
        values[fields[0]] = positive_number(fields[1], path, number)
    missing = [name for name in ("<s>", "</s>_s", "</s>_n") if name not in values]
    if missing:
        raise DataError(f"lacks {' '.join(missing)}", path=path)
    if values["<s>"] >= 1.0:
        raise DataError("the probability of initial silence must be below 1", path=path)
    return SilenceModel(values["<s>"], values["</s>_s"], values["</s>_n"])
