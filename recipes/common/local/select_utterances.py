#!/usr/bin/env python3
"""Copy a part of a data directory: every N-th speaker, or some utterances from all over it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from acoustic.errors import AcousticError, DataError
from acoustic.kaldi.datadir import DataDir, turn_round


def every_speaker(data_dir: DataDir, step: int) -> list[str]:
    """The utterances of every `step`-th speaker, of the last one where there are fewer; never of all.

    Raises:
        DataError: only one speaker.
    """
    utterances_of = data_dir.spk2utt or turn_round(data_dir.utt2spk)
    speakers = list(utterances_of)
    if len(speakers) < 2:
        raise DataError("only one speaker: none can be held out", remedy="give a dev set")
    return [utt for speaker in speakers[step - 1 :: step] or speakers[-1:] for utt in utterances_of[speaker]]


def spread(data_dir: DataDir, number: int) -> list[str]:
    """`number` utterances at equal distances, or all."""
    utterances = data_dir.utterances
    number = min(number, len(utterances))
    return [utterances[i * len(utterances) // number] for i in range(number)]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--every-speaker", type=int, metavar="N")
    how.add_argument("--number", type=int, metavar="N", help="of utterances")
    parser.add_argument("--rest", type=Path, metavar="DIR", help="data directory for what was not chosen")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("chosen", type=Path, help="data directory to make")
    args = parser.parse_args()
    try:
        data_dir = DataDir.read(args.data_dir)
        chosen = every_speaker(data_dir, args.every_speaker) if args.every_speaker else spread(data_dir, args.number)
        parts = [(args.chosen, set(chosen))]
        if args.rest is not None:
            parts.append((args.rest, set(data_dir.utterances) - set(chosen)))
        for folder, utterances in parts:
            folder.mkdir(parents=True, exist_ok=True)
            data_dir.subset(utterances).write(folder)
    except AcousticError as error:
        print(f"select_utterances.py: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
