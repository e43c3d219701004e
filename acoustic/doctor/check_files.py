"""Checks of the data directory's files: what is in them, and whether they speak of the same utterances."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Finding, Severity, from_error
from acoustic.kaldi.datadir_files import DataDirError

# kind of a DataDirError -> fault
FAULTS = {
    "duplicate": "id comes twice",
    "unsorted": "file not sorted",
    "malformed": "malformed line",
    "no_recording": "segment of an unknown recording",
    "speakers": "spk2utt is not utt2spk turned round",
}
# A line left out of these loses utterances.
DROPPING_FILES = ("wav.scp", "segments", "feats.scp")
# file -> what an utterance that is not in it lacks
MISSING = {"text": "no text", "segments": "no audio", "wav.scp": "no audio", "feats.scp": "no features"}
COMPLETE = "complete the file, or leave the utterances out (--fix)"


def check_lines(experiment: Experiment) -> Iterator[Finding]:
    """Lines that are malformed, twice there or out of order; speakers that contradict each other."""
    for error in experiment.file_faults:
        if not isinstance(error, DataDirError):
            yield from_error("file unreadable", error, "mend the file")
        elif not _follows_from_another(experiment, error):
            finding = from_error(FAULTS[error.reason], error, "run with --fix")
            yield replace(finding, drops=_utterances_hit(experiment, error), cleanable=True)


def _follows_from_another(experiment: Experiment, error: DataDirError) -> bool:
    """Whether a fault is only the consequence of one that is reported elsewhere."""
    data_dir, utt = experiment.data_dir, error.utt
    if error.reason == "speakers":
        return utt not in data_dir.utt2spk  # `check_membership` says so
    if error.reason == "no_recording":
        return data_dir.segments[str(utt)].recording in _keys_at_fault(experiment, "wav.scp")
    return False


def _utterances_hit(experiment: Experiment, error: DataDirError) -> tuple[str, ...]:
    """The utterances that cannot be used because of a fault."""
    data_dir, key = experiment.data_dir, str(error.utt)
    if error.reason == "no_recording":
        return (key,)
    if error.reason != "malformed" or error.path is None or Path(error.path).name not in DROPPING_FILES:
        return ()
    cut_from = tuple(utt for utt, segment in data_dir.segments.items() if segment.recording == key)
    return cut_from or ((key,) if key in experiment.utterances else ())


def check_required_files(experiment: Experiment) -> Iterator[Finding]:
    """Files without which little can be done."""
    folder = experiment.options.data_dir
    if not (folder / "utt2spk").exists():
        remedy = "write one; where speakers are not known, each utterance can be its own"
        yield Finding("file missing", Severity.ERROR, str(folder / "utt2spk"), "no speakers", remedy)
    elif not (folder / "spk2utt").exists():
        detail = "speaker statistics need it"
        yield Finding(
            "file missing", Severity.WARNING, str(folder / "spk2utt"), detail, "run with --fix", cleanable=True
        )
    if not (folder / "wav.scp").exists() and not (folder / "feats.scp").exists():
        detail = "no audio, and no feats.scp either"
        yield Finding("file missing", Severity.ERROR, str(folder / "wav.scp"), detail, "prepare the data again")
    if not (folder / "text").exists():
        detail = "no words, so nothing can be scored"
        yield Finding("file missing", Severity.NOTE, str(folder / "text"), detail, "write it where words are known")
    for name in ("wav.scp", "segments", "text", "utt2spk", "feats.scp", "cmvn.scp"):
        if (folder / name).is_file() and (folder / name).stat().st_size == 0:
            yield Finding("file empty", Severity.ERROR, str(folder / name), "no lines", "write it again")
    if not experiment.utterances:
        yield Finding("no utterances", Severity.ERROR, str(folder), "nothing could be read", "mend the files above")


def check_membership(experiment: Experiment) -> Iterator[Finding]:
    """Utterances that one file has and another lacks."""
    sides = utterances_by_file(experiment)
    reference = experiment.data_dir.utt2spk
    if reference and "utt2spk" not in files_cut_short(experiment):
        sides_with: dict[str, list[str]] = {}
        for side, utterances in sides.items():
            for utt in utterances:
                if utt not in reference:
                    sides_with.setdefault(utt, []).append(side)
        malformed = _keys_at_fault(experiment, "utt2spk")
        for utt in sorted(sides_with.keys() - malformed):
            detail = f"is in {', '.join(sides_with[utt])}"
            remedy = "add its speaker, or delete the utterance (--fix)"
            yield Finding("utterance not in utt2spk", Severity.ERROR, utt, detail, remedy, cleanable=True)
    for side, fault in MISSING.items():
        if side in sides:
            yield from _missing(experiment, side, sides[side], fault)


def _missing(experiment: Experiment, side: str, there: Collection[str], fault: str) -> Iterator[Finding]:
    """Utterances that a file lacks, leaving aside those whose line in it was malformed."""
    known = _keys_at_fault(experiment, side)
    for utt in experiment.utterances:
        if utt not in there and utt not in known:
            yield Finding(fault, Severity.SKIP, utt, f"is not in {side}", COMPLETE, (utt,), cleanable=True)


def utterances_by_file(experiment: Experiment) -> dict[str, Collection[str]]:
    """The utterances of each file that has some and could be read to its end."""
    data_dir = experiment.data_dir
    by_file: dict[str, Collection[str]] = {
        "text": data_dir.text,
        "segments" if data_dir.segments else "wav.scp": data_dir.segments or data_dir.wav,
        "feats.scp": data_dir.feats,
        "spk2utt": {utt for utterances in data_dir.spk2utt.values() for utt in utterances},
    }
    cut_short = files_cut_short(experiment)
    return {name: utterances for name, utterances in by_file.items() if utterances and name not in cut_short}


def files_cut_short(experiment: Experiment) -> set[str]:
    """The files whose reading a fault ended."""
    of_files = (error for error in experiment.file_faults if not isinstance(error, DataDirError))
    return {Path(error.path).name for error in of_files if error.path is not None}


def _keys_at_fault(experiment: Experiment, name: str) -> set[str]:
    """Keys whose line in a file was left out."""
    return {
        error.utt
        for error in experiment.file_faults
        if isinstance(error, DataDirError) and error.reason == "malformed" and error.utt and error.path is not None
        if Path(error.path).name == name
    }


def check_text(experiment: Experiment) -> Iterator[Finding]:
    """Utterances without a word."""
    for utt, words in experiment.data_dir.text.items():
        if not words:
            remedy = "right for noise alone; otherwise write its words"
            yield Finding("empty text", Severity.WARNING, utt, "no words", remedy)
