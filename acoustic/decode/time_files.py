"""Files of phone and word times: CTM as NIST's and Kaldi's tools read it, TextGrid as Praat does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acoustic.errors import DataError
from acoustic.kaldi.datadir_files import read_columns, read_segments


@dataclass(frozen=True)
class TimedLabel:
    """A label with times in seconds from the beginning of the utterance; `label` is empty where there is no word."""

    begin: float
    end: float
    label: str


@dataclass(frozen=True)
class Place:
    """Where an utterance is: the name of the audio file, the channel, the second at which it begins there."""

    file: str
    channel: str = "1"
    begin: float = 0.0


def read_places(segments: Path, reco2file_and_channel: Path | None = None) -> dict[str, Place]:
    """The places of utterances that are parts of recordings (Kaldi: utils/convert_ctm.pl).

    Args:
        segments: utterance, recording, begin and end on each line.
        reco2file_and_channel: recording, file and channel on each line; without it each recording is a file of its
            name with channel 1.

    Raises:
        DataError: a file is missing or malformed, or the second one lacks a recording.
    """
    faults: list[DataError] = [
        DataError("is missing", path=path) for path in (segments, reco2file_and_channel) if path and not path.exists()
    ]
    parts = read_segments(segments, faults)
    files = read_columns(reco2file_and_channel, faults) if reco2file_and_channel else {}
    if faults:
        raise faults[0]
    places = {}
    for utt, part in parts.items():
        file_and_channel = files.get(part.recording, []) if reco2file_and_channel else [part.recording, "1"]
        if len(file_and_channel) != 2:
            problem = f"has no line `{part.recording} FILE CHANNEL`"
            raise DataError(problem, path=reco2file_and_channel, utt=utt, remedy="add it, or give --segments alone")
        places[utt] = Place(file_and_channel[0], file_and_channel[1], part.begin)
    return places


def ctm_lines(place: Place, labels: Sequence[TimedLabel]) -> Iterator[str]:
    """Lines `file channel begin duration label`, in seconds to three decimals; empty labels are left out."""
    for item in labels:
        if item.label:
            times = f"{place.begin + item.begin:.3f} {item.end - item.begin:.3f}"
            yield f"{place.file} {place.channel} {times} {item.label}\n"


def textgrid(tiers: Mapping[str, Sequence[TimedLabel]]) -> str:
    """A TextGrid in Praat's long text form with one interval tier for each entry of `tiers`.

    Args:
        tiers: name -> labels that begin at 0, end together, and leave no gaps.

    Raises:
        DataError: there is nothing to show.
    """
    if not tiers or not all(tiers.values()):
        raise DataError("no frames, so that there are no times to show")
    end = max(labels[-1].end for labels in tiers.values())
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.3f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, labels) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {end:.3f}", f"        intervals: size = {len(labels)}"]
        for index, item in enumerate(labels, 1):
            lines += [f"        intervals [{index}]:", f"            xmin = {item.begin:.3f}"]
            lines += [f"            xmax = {item.end:.3f}", f"            text = {_quoted(item.label)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A string as Praat writes it: quotation marks inside are doubled."""
    return '"' + text.replace('"', '""') + '"'
