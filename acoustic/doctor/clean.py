"""A cleaned copy of a data directory: sorted, every key once, without the utterances at fault."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Report
from acoustic.errors import DataError
from acoustic.fsio import atomic_dir, write_text

DROPPED = "dropped_utterances.txt"
# Written by DataDir.
TABLES = (
    "wav.scp", "segments", "text", "utt2spk", "spk2utt", "feats.scp", "cmvn.scp", "utt2dur", "utt2num_frames",
    "utt2uniq",
)  # fmt: skip
# Further files with an utterance, speaker or recording at the start of each line.
KEYED = ("utt2", "spk2", "reco2")


def clean(experiment: Experiment, report: Report, out_dir: str | Path) -> list[str]:
    """Write the copy and, in it, the list of the utterances left out with the reason of each.

    spk2utt is made anew. Relative paths keep what `root` put before them. Files that are no tables are copied.

    Args:
        experiment: what was examined.
        report: what was found.
        out_dir: the folder to make.

    Returns:
        The utterances left out.

    Raises:
        DataError: `out_dir` is there already, nothing is left, or it cannot be written.
    """
    out_dir = Path(out_dir)
    check_is_new(out_dir)
    source, lost = experiment.options.data_dir, report.lost
    kept = [utt for utt in experiment.utterances if utt not in lost]
    if not kept:
        raise DataError("no utterance is without fault", path=source, remedy="mend what the table says")
    data_dir = replace(experiment.data_dir.subset(kept), spk2utt={})
    keys = {*kept, *data_dir.utt2spk.values(), *data_dir.wav}
    dropped = [utt for utt in experiment.utterances if utt in lost]
    with atomic_dir(out_dir) as folder:
        for path in sorted(source.iterdir()):
            if path.is_file() and path.name not in TABLES:
                copy_file(path, folder / path.name, keys)
        data_dir.write(folder)
        by_reason = sorted(dropped, key=lambda utt: (lost[utt].fault, utt))
        lines = (f"{lost[utt].fault}\t{utt}\t{lost[utt].detail}\n" for utt in by_reason)
        write_text(folder / DROPPED, "".join(lines))
    return dropped


def check_is_new(out_dir: Path) -> None:
    """Check that nothing would be overwritten.

    Raises:
        DataError: `out_dir` is there already and not empty.
    """
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise DataError("exists already", path=out_dir, remedy="name a new folder for the cleaned copy")


def copy_file(path: Path, copy: Path, keys: Collection[str]) -> None:
    """Copy a file that is no table of ours; one with a key on each line without the lines of other keys."""
    if not path.name.startswith(KEYED):
        shutil.copyfile(path, copy)
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.split(maxsplit=1)[:1] and line.split(maxsplit=1)[0].decode() in keys]
    copy.write_bytes(b"".join(sorted(kept)))
