"""Word error rate as Kaldi's compute-wer counts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import kaldialign
import numpy as np
from numpy.typing import NDArray

from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.tables import read_table

MODES = ("present", "all", "strict")


def read_transcripts(source: str) -> dict[str, list[str]]:
    """Read transcripts: a `text` file of a data directory, or any rspecifier of such lines.

    Returns:
        Utterance -> its words, in the order of the file.

    Raises:
        DataError: unreadable, or an utterance comes twice.
    """
    is_rspecifier = ":" in source and source.split(":", 1)[0].split(",", 1)[0] in ("ark", "scp")
    return dict(read_table(source if is_rspecifier else f"ark:{source}", "tokens"))


@dataclass(frozen=True)
class Scores:
    """Error counts of each scored utterance.

    Attributes:
        utts: the utterances, in the order of the reference.
        num_words: int64 [N], reference words.
        num_ins, num_del, num_sub: int64 [N].
        is_wrong: bool [N], hypothesis and reference differ.
        num_absent: utterances of the reference without hypothesis.
    """

    utts: list[str]
    num_words: NDArray[np.int64]
    num_ins: NDArray[np.int64]
    num_del: NDArray[np.int64]
    num_sub: NDArray[np.int64]
    is_wrong: NDArray[np.bool_]
    num_absent: int = 0

    @property
    def num_errors(self) -> NDArray[np.int64]:
        """Word errors of each utterance."""
        return self.num_ins + self.num_del + self.num_sub

    @property
    def wer(self) -> float:
        """Word error rate in per cent."""
        return percent(int(self.num_errors.sum()), int(self.num_words.sum()))

    def select(self, index: Sequence[int]) -> Scores:
        """The scores of some of the utterances, by position."""
        chosen = np.asarray(index, dtype=np.int64)
        return Scores(
            [self.utts[i] for i in chosen],
            self.num_words[chosen],
            self.num_ins[chosen],
            self.num_del[chosen],
            self.num_sub[chosen],
            self.is_wrong[chosen],
        )

    def wer_line(self) -> str:
        """The `%WER` line, character for character as compute-wer prints it."""
        errors, words = int(self.num_errors.sum()), int(self.num_words.sum())
        return (
            f"%WER {percent(errors, words):.2f} [ {errors} / {words}, {self.num_ins.sum()} ins, "
            f"{self.num_del.sum()} del, {self.num_sub.sum()} sub ]" + (" [PARTIAL]" if self.num_absent else "")
        )

    def ser_line(self) -> str:
        """The `%SER` line (sentence error rate) as compute-wer prints it."""
        wrong, total = int(self.is_wrong.sum()), len(self.utts)
        return f"%SER {percent(wrong, total):.2f} [ {wrong} / {total} ]"

    def count_line(self) -> str:
        """The third line of compute-wer: how many sentences were scored."""
        return f"Scored {len(self.utts)} sentences, {self.num_absent} not present in hyp."


def percent(part: int, whole: int) -> float:
    """100 part / whole, rounded to single precision at the two places where Kaldi does it."""
    return float(np.float32(100.0 * float(np.float32(part)) / float(np.float32(whole))))


def score(ref: Mapping[str, Sequence[str]], hyp: Mapping[str, Sequence[str]], mode: str = "present") -> Scores:
    """Count word errors of `hyp` against `ref` by Levenshtein distance (kaldialign breaks ties as Kaldi does).

    Args:
        ref: utterance -> words.
        hyp: utterance -> words; utterances that `ref` lacks are not looked at.
        mode: what to do about utterances without hypothesis, as in compute-wer: `present` leaves them out,
            `all` scores them as empty, `strict` refuses.

    Raises:
        ConfigError: another mode.
        DataError: nothing to score, or under `strict` an utterance without hypothesis.
    """
    if mode not in MODES:
        raise ConfigError(f"mode {mode!r} is none of {', '.join(MODES)}")
    rows: list[tuple[int, int, int, int, bool]] = []
    utts: list[str] = []
    num_absent = 0
    for utt, ref_words in ref.items():
        if utt not in hyp:
            if mode == "strict":
                raise DataError("no hypothesis", utt=utt, remedy="decode it, or score with --mode=present or all")
            num_absent += 1
            if mode == "present":
                continue
        hyp_words = hyp.get(utt, ())
        distance = kaldialign.edit_distance(ref_words, hyp_words)
        differs = list(ref_words) != list(hyp_words)
        rows.append((len(ref_words), distance["ins"], distance["del"], distance["sub"], differs))
        utts.append(utt)
    if not rows:
        raise DataError(
            f"none of the {len(ref)} reference utterances has a hypothesis",
            remedy="check that both files name the same utterances",
        )
    num_words, num_ins, num_del, num_sub, is_wrong = np.array(rows, dtype=np.int64).T
    if num_words.sum() == 0:
        raise DataError(f"the {len(rows)} scored references hold no words", remedy="check the reference file")
    return Scores(utts, num_words, num_ins, num_del, num_sub, is_wrong.astype(bool), num_absent)


def groups_by_speaker(scores: Scores, utt2spk: Mapping[str, str]) -> dict[str, list[int]]:
    """Speaker -> positions of the speaker's utterances in `scores`.

    Raises:
        DataError: an utterance without speaker.
    """
    groups: dict[str, list[int]] = {}
    for position, utt in enumerate(scores.utts):
        if utt not in utt2spk:
            raise DataError("has no speaker in utt2spk", utt=utt, remedy="use the utt2spk of the scored set")
        groups.setdefault(utt2spk[utt], []).append(position)
    return groups


def speaker_table(scores: Scores, groups: Mapping[str, Sequence[int]]) -> list[str]:
    """A table with one line for each speaker: sentences, words, error counts, WER, SER."""
    width = max(len("speaker"), *map(len, groups))
    lines = [f"{'speaker':{width}s}  sents   words     ins    del    sub    %WER    %SER"]
    for speaker, index in sorted(groups.items()):
        part = scores.select(index)
        words = int(part.num_words.sum())
        wer = f"{part.wer:7.2f}" if words else "      -"
        lines.append(
            f"{speaker:{width}s} {len(part.utts):6d} {words:7d} {part.num_ins.sum():7d} {part.num_del.sum():6d} "
            f"{part.num_sub.sum():6d} {wer} {percent(int(part.is_wrong.sum()), len(part.utts)):7.2f}"
        )
    return lines
