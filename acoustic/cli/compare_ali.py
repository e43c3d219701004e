"""`acoustic compare-ali`: how far two alignments of the same data differ."""

from __future__ import annotations

import argparse
from pathlib import Path

from acoustic.cli.options import parse_share
from acoustic.decode.compare import Comparison, PhoneChanges, phones_with_other_hmms
from acoustic.decode.lang_match import check_phone_ids
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.alignments import read_alignments, read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.transitions import TransitionModel
from acoustic.log import Tally, get_logger

HELP = "how far two alignments of the same data differ: frames moved, by phone; boundaries"
EXAMPLE = "acoustic compare-ali --lang-dir=data/lang exp/tri1_ali exp/dnn_ali"

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options and arguments."""
    parser.add_argument("--lang-dir", help="gives phones their names; without it they are ids")
    parser.add_argument("--data-dir", help="only these utterances (default: all that the first alignment has)")
    parser.add_argument("--frame-shift", type=float, default=0.01, help="in seconds (default: 0.01)")
    parser.add_argument("--tolerance", type=float, default=0.02, help="boundaries this near are counted, in s (0.02)")
    parser.add_argument(
        "--max-skip-fraction", type=parse_share, default=0.05, help="fail if more are in one only (0.05)"
    )
    parser.add_argument("first", help="alignment directory (ali.*.gz, final.mdl)")
    parser.add_argument("second", help="another; its phones must have the same ids")


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    if not args.frame_shift > 0.0 or not args.tolerance >= 0.0:
        raise ConfigError("--frame-shift must be positive and --tolerance not negative")
    models = read_model(args.first), read_model(args.second)
    names = phone_names(args, *models)
    comparison = Comparison(*models)
    wanted = set(DataDir.read(args.data_dir).utterances) if args.data_dir else None
    second = dict(read_alignments(args.second))
    tally = Tally()
    for utt, alignment in read_alignments(args.first):
        if wanted is not None and utt not in wanted:
            continue
        if utt not in second:
            tally.skip("not_in_second", utt)
            continue
        try:
            comparison.add(utt, alignment, second[utt])
        except DataError as error:
            tally.skip("not_comparable", utt, error.problem)
            continue
        tally.done()
    tally.check(args.max_skip_fraction)
    print("\n".join(report(comparison, names, args.frame_shift, args.tolerance)))
    logger.info(tally.summary())


def phone_names(args: argparse.Namespace, first: TransitionModel, second: TransitionModel) -> dict[int, str]:
    """The name of each phone id, empty without --lang-dir.

    The phones.txt that alignment directories of Kaldi's hold must agree with each other and with that of --lang-dir. If
    one has none, HMMs that differ are a hint that the phones have other ids, which is told.

    Raises:
        DataError: an id stands for two phones.
    """
    of_alignments = [Path(folder) / "phones.txt" for folder in (args.first, args.second)]
    of_lang = [Path(args.lang_dir) / "phones.txt"] if args.lang_dir else []
    tables = {path: SymbolTable.read(path) for path in of_lang + [path for path in of_alignments if path.exists()]}
    check_phone_ids(tables)
    other = phones_with_other_hmms(first, second)
    if other and not set(of_alignments) <= tables.keys():
        shown = " ".join(map(str, other[:5])) + " ..." * (len(other) > 5)
        logger.warning("the two models have other HMMs for phones %s: are their ids of one lang directory?", shown)
    return tables[of_lang[0]].symbol_of if of_lang else {}


def report(comparison: Comparison, names: dict[int, str], frame_shift: float, tolerance: float) -> list[str]:
    """The lines to print: totals, then a table by phone, those with the most frames moved first."""
    total = comparison.total()
    if comparison.num_pdfs_moved is None:
        pdfs = "pdfs are not comparable, the models differ"
    else:
        pdfs = f"{percent(comparison.num_pdfs_moved, comparison.num_frames)} % of frames moved to another pdf"
    width = f"within_{1000 * tolerance:g}ms"
    lines = [
        f"{comparison.num_frames} frames: {pdfs}",
        f"{percent(total.num_moved, comparison.num_frames)} % of frames moved to another phone",
        f"{len(total.shifts)} boundaries of phones: {boundaries(total, frame_shift, tolerance)}; "
        f"{total.num_unmatched} of {total.num_phones} phones without counterpart",
        "",
        f"{'phone':<10} {'frames':>9} {'moved_%':>8} {'boundaries':>10} {'mean_ms':>8} {width:>12} {'unmatched':>9}",
    ]
    for phone, changes in sorted(comparison.phones.items(), key=lambda item: (-item[1].num_moved, item[0])):
        within = 100.0 * changes.share_within(tolerance / frame_shift)
        lines.append(
            f"{names.get(phone, str(phone)):<10} {changes.num_frames:>9} "
            f"{percent(changes.num_moved, changes.num_frames):>8} {len(changes.shifts):>10} "
            f"{1000.0 * frame_shift * changes.mean_absolute_shift():>8.2f} {within:>11.2f}% {changes.num_unmatched:>9}"
        )
    return lines


def boundaries(changes: PhoneChanges, frame_shift: float, tolerance: float) -> str:
    """Mean absolute shift and share within the tolerance, in words."""
    return (
        f"mean absolute shift {1000.0 * frame_shift * changes.mean_absolute_shift():.2f} ms, "
        f"{100.0 * changes.share_within(tolerance / frame_shift):.2f} % within {1000.0 * tolerance:g} ms"
    )


def percent(part: int, whole: int) -> str:
    """A share in per cent with two decimals; nothing is no share of nothing."""
    return f"{100.0 * part / whole:.2f}" if whole else "nan"
