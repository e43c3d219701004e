"""The lang directory: words, phones, topology and lexicon transducers, made from a dictionary directory.

What Kaldi's utils/prepare_lang.sh makes, file by file and byte by byte (the transducers: arc by arc).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import kaldifst

from acoustic.decode.lang_dict import Dictionary, Pronunciation
from acoustic.decode.lang_fst import write_fst
from acoustic.decode.lang_lexicon import add_disambiguation, lexicon_fst, silence_lexicon_fst
from acoustic.decode.lang_phones import LangPhones, check_word_boundary, make_phones, mark_positions
from acoustic.decode.lang_topology import topology_text
from acoustic.errors import DataError
from acoustic.fsio import atomic_dir
from acoustic.log import get_logger

logger = get_logger(__name__)

RESERVED_WORDS = ("<eps>", "#0", "<s>", "</s>")  # in words.txt beside the lexicon's own


@dataclass(frozen=True)
class LangOptions:
    """Options of `acoustic prepare-lang`, with the names and defaults of prepare_lang.sh."""

    position_dependent_phones: bool = field(
        default=True, metadata={"help": "mark each phone's position in the word: _B, _I, _E, or _S for a single phone"}
    )
    num_sil_states: int = field(default=5, metadata={"help": "states of a silence phone: 1, or 3 and more"})
    num_nonsil_states: int = field(default=3, metadata={"help": "states of any other phone"})
    share_silence_phones: bool = field(default=False, metadata={"help": "all silence phones share their pdfs"})
    sil_prob: float = field(default=0.5, metadata={"help": "probability of silence between words, 0 for none"})

    def __post_init__(self) -> None:
        """ValueError on values no lang directory can have."""
        if not 0.0 <= self.sil_prob < 1.0:
            raise ValueError(f"--sil-prob={self.sil_prob}: must be at least 0 and below 1")
        if self.num_sil_states not in (1, *range(3, 101)):
            raise ValueError(f"--num-sil-states={self.num_sil_states}: must be 1, or from 3 to 100")
        if not 1 <= self.num_nonsil_states <= 100:
            raise ValueError(f"--num-nonsil-states={self.num_nonsil_states}: must be from 1 to 100")


def prepare_lang(dict_dir: str | Path, oov_word: str, lang_dir: str | Path, options: LangOptions | None = None) -> None:
    """Make `lang_dir` from `dict_dir`; an earlier lang directory of that name is replaced as a whole.

    Args:
        oov_word: the lexicon's word that stands for words outside it.

    Raises:
        DataError: the dictionary is faulty, lacks `oov_word`, or `lang_dir` holds something else.
    """
    options = options or LangOptions()
    dict_dir, lang_dir = Path(dict_dir), Path(lang_dir)
    check_replaceable(lang_dir)
    dictionary = Dictionary.read(dict_dir)
    phones = make_phones(dictionary, options.position_dependent_phones, options.share_silence_phones)
    check_word_boundary(phones, dict_dir / "word_boundary.txt")
    lexicon = dictionary.lexicon
    if options.position_dependent_phones:
        lexicon = [mark_positions(entry) for entry in lexicon]
    disambiguated, highest = add_disambiguation(lexicon)
    # One more symbol follows the optional silence.
    disambig = [f"#{number}" for number in range(highest + 2)]
    phone_ids = number_symbols(["<eps>", *phones.silence, *phones.nonsilence, *disambig])
    word_ids = number_words(lexicon)
    if oov_word not in word_ids or oov_word in RESERVED_WORDS:
        raise DataError(
            f"word {oov_word} for words outside the lexicon is not in it",
            path=dict_dir,
            remedy=f"name one that is, or add `{oov_word} PHONE` to lexicon.txt, as with a phone of noise",
        )
    with atomic_dir(lang_dir) as folder:
        (folder / "phones").mkdir()
        write_symbols(folder / "phones.txt", phone_ids)
        write_symbols(folder / "words.txt", word_ids)
        write_lines(folder / "oov.txt", [oov_word])
        write_lines(folder / "oov.int", [str(word_ids[oov_word])])
        write_phone_files(folder / "phones", phones, dictionary.optional_silence, disambig, phone_ids)
        write_word_disambiguation(folder / "phones", phone_ids, word_ids)
        write_align_lexicon(folder / "phones", lexicon, dictionary.optional_silence, phone_ids, word_ids)
        topology = topology_text(
            [phone_ids[phone] for phone in phones.nonsilence],
            [phone_ids[phone] for phone in phones.silence],
            options.num_nonsil_states,
            options.num_sil_states,
        )
        (folder / "topo").write_text(topology, encoding="utf-8")
        make_fst = LexiconFstMaker(dictionary, options.sil_prob, phone_ids, word_ids)
        write_fst(make_fst(lexicon, None), folder / "L.fst")
        write_fst(make_fst(disambiguated, disambig[-1]), folder / "L_disambig.fst")
    logger.info(
        "%s: %d words, %d pronunciations, %d phones, %d disambiguation symbols",
        *(lang_dir, len(word_ids) - len(RESERVED_WORDS), len(lexicon)),
        *(len(phones.silence) + len(phones.nonsilence), len(disambig)),
    )


def check_replaceable(lang_dir: Path) -> None:
    """DataError when `lang_dir` exists and is neither empty nor a lang directory: it is not ours to replace.

    Kaldi's model and graph directories have phones.txt, too.
    """
    if not lang_dir.exists() or all((lang_dir / name).exists() for name in ("phones.txt", "topo", "L.fst")):
        return
    if not lang_dir.is_dir() or any(lang_dir.iterdir()):
        raise DataError("exists and is not a lang directory", path=lang_dir, remedy="remove it or name another")


def number_symbols(symbols: Iterable[str]) -> dict[str, int]:
    """Give the symbols the ids 0, 1, 2, ..."""
    return {symbol: number for number, symbol in enumerate(symbols)}


def number_words(lexicon: Iterable[Pronunciation]) -> dict[str, int]:
    """Word ids: words in byte order between <eps> and #0; <s> and </s> are for language-model rescoring."""
    # Code points sort as their UTF-8 bytes do.
    return number_symbols(["<eps>", *sorted({entry.word for entry in lexicon}), "#0", "<s>", "</s>"])


@dataclass(frozen=True)
class LexiconFstMaker:
    """Calls the right maker of lexicon transducers: with silence probabilities of each word or without."""

    dictionary: Dictionary
    silence_prob: float
    phone_ids: Mapping[str, int]
    word_ids: Mapping[str, int]

    def __call__(self, lexicon: Sequence[Pronunciation], silence_disambig: str | None) -> kaldifst.StdVectorFst:
        """L.fst of `lexicon`, or L_disambig.fst when `silence_disambig` names the symbol beside silence."""
        silence, model = self.dictionary.optional_silence, self.dictionary.silence_model
        tables = (self.phone_ids, self.word_ids)
        if model is None:
            fst = lexicon_fst(lexicon, *tables, silence, self.silence_prob, silence_disambig)
        else:
            fst = silence_lexicon_fst(lexicon, model, *tables, silence, silence_disambig)
        if silence_disambig is not None:
            # Let the grammar's backoff symbol through.
            kaldifst.add_self_loops(fst, [self.phone_ids["#0"]], [self.word_ids["#0"]])
            kaldifst.arcsort(fst, sort_type="olabel")
        return fst


def write_phone_files(
    folder: Path, phones: LangPhones, optional_silence: str, disambig: Sequence[str], phone_ids: Mapping[str, int]
) -> None:
    """Write the lists of phones: names (.txt), ids (.int), and for plain lists ids with colons (.csl)."""
    plain_lists = {
        "silence": phones.silence,
        "nonsilence": phones.nonsilence,
        "optional_silence": [optional_silence],
        "disambig": disambig,
        "context_indep": phones.silence,
    }
    for name, members in plain_lists.items():
        write_txt_int(folder, name, [[member] for member in members], phone_ids)
        write_lines(folder / f"{name}.csl", [":".join(str(phone_ids[member]) for member in members)])
    write_txt_int(folder, "sets", phones.sets, phone_ids)
    write_txt_int(folder, "roots", phones.roots, phone_ids)
    write_txt_int(folder, "extra_questions", [*phones.extra_questions, *phones.position_questions], phone_ids)
    with (folder / "extra_questions.txt").open("w", encoding="utf-8") as file:
        file.writelines(" ".join(question) + "\n" for question in phones.extra_questions)
        # Kaldi ends these lines with a space; so do we, that the files be the same byte by byte.
        file.writelines(" ".join(question) + " \n" for question in phones.position_questions)
    if phones.word_boundary:
        write_txt_int(folder, "word_boundary", phones.word_boundary, phone_ids)


def write_word_disambiguation(folder: Path, phone_ids: Mapping[str, int], word_ids: Mapping[str, int]) -> None:
    """Write wdisambig*: the symbols that the lexicon passes from phones to words, only #0."""
    write_lines(folder / "wdisambig.txt", ["#0"])
    write_lines(folder / "wdisambig_phones.int", [str(phone_ids["#0"])])
    write_lines(folder / "wdisambig_words.int", [str(word_ids["#0"])])


def write_align_lexicon(
    folder: Path,
    lexicon: Sequence[Pronunciation],
    optional_silence: str,
    phone_ids: Mapping[str, int],
    word_ids: Mapping[str, int],
) -> None:
    """Write align_lexicon: word, word again, phones; for finding words in lattices without word positions."""
    entries = {(entry.word, entry.word, *entry.phones) for entry in lexicon}
    entries.add(("<eps>", "<eps>", optional_silence))
    ordered = sorted(entries, key=" ".join)
    write_lines(folder / "align_lexicon.txt", map(" ".join, ordered))
    numbered = ([word_ids[e[0]], word_ids[e[1]], *(phone_ids[phone] for phone in e[2:])] for e in ordered)
    write_lines(folder / "align_lexicon.int", (" ".join(map(str, numbers)) for numbers in numbered))


def write_txt_int(folder: Path, name: str, lines: Sequence[Sequence[str]], phone_ids: Mapping[str, int]) -> None:
    """Write `name`.txt, and `name`.int with phones replaced by their ids (words such as `shared` stay)."""
    write_lines(folder / f"{name}.txt", map(" ".join, lines))
    write_lines(folder / f"{name}.int", (" ".join(str(phone_ids.get(item, item)) for item in line) for line in lines))


def write_symbols(path: Path, ids: Mapping[str, int]) -> None:
    """Write a symbol table."""
    write_lines(path, (f"{symbol} {number}" for symbol, number in ids.items()))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
