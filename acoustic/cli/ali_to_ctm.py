"""`acoustic ali-to-ctm`: when each phone or word of an alignment was spoken."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.cli.options import parse_share
from acoustic.decode.graph import read_ids
from acoustic.decode.time_files import Place, TimedLabel, ctm_lines, read_places, textgrid
from acoustic.decode.times import Interval, WordTimes, phone_intervals
from acoustic.decode.train_graphs import transcript_ids
from acoustic.decode.wer import read_transcripts
from acoustic.errors import ConfigError, DataError
from acoustic.fsio import atomic_dir, write_text
from acoustic.kaldi.alignments import read_alignments_of
from acoustic.kaldi.stream import open_writer
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally, get_logger, progress

HELP = "phone or word times of alignments, as CTM or TextGrid (ali-to-phones --ctm-output, get_train_ctm.sh)"
EXAMPLE = (
    "acoustic ali-to-ctm --level=word --lang-dir=data/lang --text=data/train/text exp/ali/final.mdl "
    "exp/ali exp/words.ctm"
)

logger = get_logger(__name__)

Tiers = dict[str, list[TimedLabel]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    parser.add_argument("--level", choices=("phone", "word"), default="phone", help="what to time (default: phone)")
    parser.add_argument(
        "--format",
        choices=("ctm", "textgrid"),
        default="ctm",
        help="one CTM file, or a folder of a TextGrid for each utterance, where words have phones below (default: ctm)",
    )
    parser.add_argument("--lang-dir", help="gives phones their names, and finds words; without it phones are ids")
    parser.add_argument("--text", help="the transcripts, for words: text of a data directory, or an rspecifier")
    parser.add_argument("--print-silence", action="store_true", help="in a CTM of words, show <eps> between them")
    parser.add_argument("--segments", help="segments of the data directory: times in the CTM are those of recordings")
    parser.add_argument("--reco2file-and-channel", help="names the recordings' files and channels in the CTM")
    parser.add_argument("--frame-shift", type=float, default=0.01, help="in seconds (default: 0.01)")
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail if more cannot be timed (0.05)"
    )
    parser.add_argument("model", help="final.mdl of the alignments")
    parser.add_argument("alignments", help="alignment directory, or an rspecifier")
    parser.add_argument("out", help="the CTM file (- for standard output), or the folder of TextGrids")


def run(args: argparse.Namespace) -> None:
    """Time and write."""
    if not 0.0 < args.frame_shift < math.inf:
        raise ConfigError(f"--frame-shift={args.frame_shift}: must be positive")
    if args.level == "word" and not (args.lang_dir and args.text):
        raise ConfigError("--level=word needs --lang-dir and --text")
    if (args.segments and args.format != "ctm") or (args.reco2file_and_channel and not args.segments):
        raise ConfigError("--segments is for a CTM, and --reco2file-and-channel goes with it")
    tiers_of, place_of = make_timer(args), make_locator(args)
    tally = Tally()
    utterances = progress(read_alignments_of(args.alignments), "times")

    def timed(utt: str, alignment: NDArray[np.int32]) -> tuple[Place, Tiers] | None:
        try:
            found = place_of(utt), tiers_of(utt, alignment)
        except DataError as error:
            tally.skip("no_times", utt, error.problem)
            return None
        tally.done()
        return found

    if args.format == "ctm":
        with open_writer(args.out) as file:
            for utt, alignment in utterances:
                if found := timed(utt, alignment):
                    place, tiers = found
                    file.write("".join(ctm_lines(place, next(iter(tiers.values())))).encode())
            tally.check(args.max_skip_fraction)
    else:
        check_only_textgrids(Path(args.out))
        with atomic_dir(args.out) as folder:
            for utt, alignment in utterances:
                if found := timed(utt, alignment):
                    write_text(textgrid_path(folder, utt), textgrid(found[1]))
            tally.check(args.max_skip_fraction)
    logger.info(tally.summary())


def check_only_textgrids(folder: Path) -> None:
    """DataError if the folder holds anything that is no TextGrid, wavs for instance: it is replaced as a whole."""
    other = next((path.name for path in folder.glob("*") if path.suffix != ".TextGrid"), None)
    if other:
        problem = f"holds {other}, which is no TextGrid, and is not replaced"
        raise DataError(problem, path=folder, remedy="give another name for the output folder")


def textgrid_path(folder: Path, utt: str) -> Path:
    """Where an utterance's TextGrid goes.

    Raises:
        DataError: its name would lead elsewhere.
    """
    if "/" in utt:
        raise DataError("a name with / cannot be that of a file", utt=utt, remedy="write a CTM")
    return folder / f"{utt}.TextGrid"


def make_locator(args: argparse.Namespace) -> Callable[[str], Place]:
    """The function that finds the file that an utterance is in: one of its own name, unless `--segments` says more."""
    if not args.segments:
        return Place
    channels = args.reco2file_and_channel
    places = read_places(Path(args.segments), Path(channels) if channels else None)

    def place_of(utt: str) -> Place:
        if utt not in places:
            raise DataError(f"is not in {args.segments}", utt=utt)
        return places[utt]

    return place_of


def make_timer(args: argparse.Namespace) -> Callable[[str, NDArray[np.int32]], Tiers]:
    """The function that finds an utterance's tiers, that of `--level` first."""
    model = TransitionModel.read(args.model)
    lang_dir = Path(args.lang_dir) if args.lang_dir else None
    phone_names = SymbolTable.read(lang_dir / "phones.txt").symbol_of if lang_dir else {}

    def labelled(intervals: list[Interval], names: dict[int, str]) -> list[TimedLabel]:
        shift = args.frame_shift
        return [TimedLabel(i.begin * shift, i.end * shift, names.get(i.label, str(i.label))) for i in intervals]

    def phone_tier(utt: str, alignment: NDArray[np.int32]) -> Tiers:
        return {"phones": labelled(phone_intervals(model, utt, alignment), phone_names)}

    if args.level == "phone" or lang_dir is None:
        return phone_tier
    words = SymbolTable.read(lang_dir / "words.txt")
    oov_id = next(iter(read_ids(lang_dir / "oov.int")), None)
    word_names = words.symbol_of | {0: "<eps>" if args.print_silence and args.format == "ctm" else ""}
    silence_path = lang_dir / "phones" / "optional_silence.int"
    word_times = WordTimes(
        lang_dir / "L.fst", read_ids(silence_path if silence_path.exists() else lang_dir / silence_path.name)
    )
    text = read_transcripts(args.text)

    def word_tiers(utt: str, alignment: NDArray[np.int32]) -> Tiers:
        if utt not in text:
            raise DataError("no transcript", utt=utt)
        intervals = phone_intervals(model, utt, alignment)
        found = word_times.intervals(intervals, transcript_ids(text[utt], words.id_of, oov_id))
        return {"words": labelled(found, word_names), "phones": labelled(intervals, phone_names)}

    return word_tiers
