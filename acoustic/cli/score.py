"""`acoustic score`: word error rate with a confidence interval."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from acoustic.decode.wer import MODES, Scores, groups_by_speaker, read_transcripts, score, speaker_table
from acoustic.decode.wer_bootstrap import confidence_interval
from acoustic.errors import ConfigError
from acoustic.log import Tally, get_logger

HELP = "word error rate of hypotheses, as compute-wer prints it, with a confidence interval"
EXAMPLE = "acoustic score --utt2spk=data/test/utt2spk data/test/text exp/dnn/decode/text"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    parser.add_argument(
        "--mode",
        default="present",
        help="utterances without hypothesis: present (left out), all (scored as empty), strict (an error) "
        "(default: present)",
    )
    parser.add_argument(
        "--utt2spk",
        help="draws whole speakers for the interval, and prints a table of them (default: the utt2spk beside the "
        "reference, for the table alone)",
    )
    parser.add_argument(
        "--num-bootstrap", type=int, default=1000, help="draws for the interval, 0 for none (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("--terse", action="store_true", help="print the %%WER line alone")
    parser.add_argument("ref", help="reference: a file of lines `utterance word word ...`, or an rspecifier")
    parser.add_argument("hyp", help="hypotheses, likewise")


def run(args: argparse.Namespace) -> None:
    """Score and print."""
    if args.mode not in MODES:
        raise ConfigError(f"--mode={args.mode}: must be one of {', '.join(MODES)}")
    if args.num_bootstrap < 0 or args.seed < 0:
        raise ConfigError("--num-bootstrap and --seed must not be negative")
    tally = Tally()
    ref, hyp = read_transcripts(args.ref), read_transcripts(args.hyp)
    scores = score(ref, hyp, args.mode)
    unknown = sum(1 for utt in hyp if utt not in ref)
    if unknown:
        logger.warning("%s: %d utterances are not in the reference and were not scored", args.hyp, unknown)
    print(scores.wer_line())
    if not args.terse:
        print_more(args, scores)
    sys.stdout.flush()
    tally.done(len(scores.utts))
    for utt in ref:
        if utt not in hyp and args.mode == "present":
            tally.skip("no_hypothesis", utt)
    print(f"acoustic score: {tally.summary()}", file=sys.stderr)


def print_more(args: argparse.Namespace, scores: Scores) -> None:
    """Print what follows the %WER line."""
    print(scores.ser_line())
    print(scores.count_line())
    speakers = read_speakers(args.utt2spk) if args.utt2spk else speakers_beside(args.ref, scores)
    groups = groups_by_speaker(scores, speakers) if speakers else None
    if args.num_bootstrap:
        drawn = list(groups.values()) if groups and args.utt2spk else None
        interval = confidence_interval(scores, drawn, args.num_bootstrap, args.seed)
        unit = "speakers" if drawn else "utterances"
        print(
            f"WER {interval.confidence:.0%} confidence interval [{interval.low:.2f}, {interval.high:.2f}], "
            f"standard error {interval.std_error:.2f} "
            f"({interval.num_samples} bootstrap draws of {interval.num_groups} {unit})"
        )
    if groups:
        print("\n".join(speaker_table(scores, groups)))


def speakers_beside(ref: str, scores: Scores) -> dict[str, str] | None:
    """Utterance -> speaker, from the utt2spk in the reference's folder; None if it does not name every utterance."""
    path = Path(ref).with_name("utt2spk")
    speakers = read_speakers(str(path)) if path.is_file() else {}
    return speakers if all(utt in speakers for utt in scores.utts) else None


def read_speakers(path: str) -> dict[str, str]:
    """Utterance -> speaker, from a utt2spk file."""
    return {utt: words[0] if words else "" for utt, words in read_transcripts(path).items()}
