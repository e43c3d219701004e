"""Two systems on the test sets of several folds: word error rates, their means, and whether they differ.

    scripts/compare_folds.py 'exp/{fold}/test/text' 'exp/old/{fold}/text' 'exp/new/{fold}/text' 1 2 3 4 5 6

The paired t-test takes a fold as a sample; the bootstrap draws utterances of all folds.
"""

from __future__ import annotations

import argparse

import numpy as np

from acoustic.decode.wer import read_transcripts, score
from acoustic.study.claims import BELOW_ZERO
from acoustic.study.verdict import compare_words, judge


def main() -> None:
    """Print a table and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref", help="reference; {fold} stands for a fold's name")
    parser.add_argument("old", help="hypotheses of one system")
    parser.add_argument("new", help="hypotheses of the other, which is hoped to be better")
    parser.add_argument("folds", nargs="+")
    args = parser.parse_args()
    scores = {
        name: [
            score(read_transcripts(args.ref.format(fold=fold)), read_transcripts(hyp.format(fold=fold)), "all")
            for fold in args.folds
        ]
        for name, hyp in (("old", args.old), ("new", args.new))
    }
    wers = {name: np.array([item.wer for item in items]) for name, items in scores.items()}
    print("fold  " + " ".join(f"{fold:>7s}" for fold in [*args.folds, "mean"]))
    for name, values in wers.items():
        print(f"{name:5s} " + " ".join(f"{value:7.2f}" for value in [*values, values.mean()]))
    judgement = judge((wers["new"] - wers["old"])[:, None], BELOW_ZERO)
    words = compare_words(scores["old"], scores["new"])
    relative = 100 * (wers["new"].mean() / wers["old"].mean() - 1)
    print(
        f"difference {judgement.mean:+.2f} points [{judgement.low:.2f}, {judgement.high:.2f}], {relative:+.1f} % "
        f"relative; paired t-test over folds p = {judgement.p_value:.3f}"
    )
    print(
        f"bootstrap over utterances: {words.difference:+.2f} [{words.low:.2f}, {words.high:.2f}], probability of "
        f"improvement {100 * words.probability_of_improvement:.1f} %"
    )


if __name__ == "__main__":
    main()
