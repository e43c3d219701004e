"""`acoustic score`: word error rate with a confidence interval."""

from __future__ import annotations

import argparse

from acoustic.decode.wer import MODES, groups_by_speaker, read_transcripts, score, speaker_table
from acoustic.decode.wer_bootstrap import confidence_interval
from acoustic.errors import ConfigError
from acoustic.log import get_logger

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
    parser.add_argument("--utt2spk", help="prints a table by speaker and draws whole speakers for the interval")
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
    ref, hyp = read_transcripts(args.ref), read_transcripts(args.hyp)
    scores = score(ref, hyp, args.mode)
    unknown = sum(1 for utt in hyp if utt not in ref)
    if unknown:
        logger.warning("%s: %d utterances are not in the reference and were not scored", args.hyp, unknown)
    print(scores.wer_line())
    if args.terse:
        return
    print(scores.ser_line())
    print(scores.count_line())
    groups = groups_by_speaker(scores, read_speakers(args.utt2spk)) if args.utt2spk else None
    if args.num_bootstrap:
        interval = confidence_interval(scores, list(groups.values()) if groups else None, args.num_bootstrap, args.seed)
        unit = "speakers" if groups else "utterances"
        print(
            f"WER {interval.confidence:.0%} confidence interval [{interval.low:.2f}, {interval.high:.2f}], "
            f"standard error {interval.std_error:.2f} "
            f"({interval.num_samples} bootstrap draws of {interval.num_groups} {unit})"
        )
    if groups:
        print("\n".join(speaker_table(scores, groups)))


def read_speakers(path: str) -> dict[str, str]:
    """Utterance -> speaker, from a utt2spk file."""
    return {utt: words[0] if words else "" for utt, words in read_transcripts(path).items()}
