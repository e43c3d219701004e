"""Kaldi data directories: which recordings, utterances, words, speakers and features a set has.

The files and their meaning are those of Kaldi's data preparation (`utils/validate_data_dir.sh`): every file is
optional here, every one sorted by its first column in C order (bytes), every first column unique.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from acoustic.errors import DataError
from acoustic.fsio import remove_file
from acoustic.kaldi.basic import check_token
from acoustic.kaldi.datadir_files import (
    DataDirError,
    Segment,
    read_columns,
    read_rxfilenames,
    read_segments,
    read_single,
)
from acoustic.kaldi.sinks import open_writer

__all__ = ["DataDir", "Segment"]


@dataclass
class DataDir:
    """A data directory in memory. What has no file is empty.

    Attributes:
        wav: rxfilename of the audio of each recording (`wav.scp`).
        segments: which part of which recording each utterance is; without it every recording is an utterance.
        text: words of each utterance.
        utt2spk: speaker of each utterance.
        spk2utt: utterances of each speaker.
        feats: rxfilename of the features of each utterance, range included (`feats.scp`).
        cmvn: rxfilename of the CMVN statistics of each speaker or utterance (`cmvn.scp`).
        utt2dur: seconds of each utterance.
        utt2num_frames: number of feature frames of each utterance.
        utt2uniq: the utterance that each is a copy of, at another speed for instance, or is itself.
    """

    wav: dict[str, str] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    text: dict[str, list[str]] = field(default_factory=dict)
    utt2spk: dict[str, str] = field(default_factory=dict)
    spk2utt: dict[str, list[str]] = field(default_factory=dict)
    feats: dict[str, str] = field(default_factory=dict)
    cmvn: dict[str, str] = field(default_factory=dict)
    utt2dur: dict[str, float] = field(default_factory=dict)
    utt2num_frames: dict[str, int] = field(default_factory=dict)
    utt2uniq: dict[str, str] = field(default_factory=dict)

    @property
    def utterances(self) -> list[str]:
        """The utterances: those of `utt2spk`, or where that is missing of segments, feats, text or wav.scp."""
        return list(self.utt2spk or self.segments or self.feats or self.text or self.wav)

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> Self:
        """Read a data directory and check each file and that they belong together.

        That some utterances lack words or features is no fault here: those who need them count what they skip.

        Args:
            path: the directory.
            root: folder to which plain relative paths in wav.scp, feats.scp and cmvn.scp are relative; by default,
                as in Kaldi, the current one.

        Raises:
            DataError: the first of the faults that `read_with_faults` finds.
        """
        data_dir, faults = cls.read_with_faults(path, root)
        if faults:
            raise faults[0]
        return data_dir

    @classmethod
    def read_with_faults(cls, path: str | Path, root: str | Path | None = None) -> tuple[Self, list[DataError]]:
        """Read what can be read of a data directory and list every fault: line, utterance and remedy each.

        Malformed lines, first columns that come twice or out of C order, segments of unknown recordings or without
        length, spk2utt that is not utt2spk turned round.

        Raises:
            DataError: there is no such directory, or none of the files is in it.
        """
        path = Path(path)
        if not path.is_dir():
            raise DataError("is no directory", path=path)
        faults: list[DataError] = []
        data_dir = cls(
            wav=read_rxfilenames(path / "wav.scp", root, faults),
            segments=read_segments(path / "segments", faults),
            text=read_columns(path / "text", faults),
            utt2spk=read_single(path / "utt2spk", str, faults),
            spk2utt=read_columns(path / "spk2utt", faults),
            feats=read_rxfilenames(path / "feats.scp", root, faults),
            cmvn=read_rxfilenames(path / "cmvn.scp", root, faults),
            utt2dur=read_single(path / "utt2dur", float, faults),
            utt2num_frames=read_single(path / "utt2num_frames", int, faults),
            utt2uniq=read_single(path / "utt2uniq", str, faults),
        )
        if not data_dir.utterances and not faults:
            raise DataError("holds no data: none of wav.scp, segments, text, utt2spk, feats.scp has a line", path=path)
        faults += data_dir._segment_faults(path / "segments") + data_dir._speaker_faults(path)
        return data_dir, faults

    def _segment_faults(self, path: Path) -> list[DataError]:
        return [
            DataDirError(
                "no_recording",
                f"its recording {segment.recording} is not in wav.scp",
                path=path,
                utt=utt,
                remedy="add the recording to wav.scp or delete the segment",
            )
            for utt, segment in self.segments.items()
            if segment.recording not in self.wav
        ]

    def _speaker_faults(self, path: Path) -> list[DataError]:
        """Where spk2utt is not utt2spk turned round."""
        if not self.utt2spk or not self.spk2utt:
            return []
        remedy = "rebuild spk2utt from utt2spk (utils/utt2spk_to_spk2utt.pl)"
        faults: list[DataError] = []
        speaker_of: dict[str, str] = {}
        for speaker, utterances in self.spk2utt.items():
            for utt in utterances:
                if utt in speaker_of:
                    where = path / "spk2utt"
                    faults.append(DataDirError("duplicate", "comes twice", path=where, utt=utt, remedy=remedy))
                speaker_of[utt] = speaker
        for utt in sorted(self.utt2spk.keys() | speaker_of.keys()):
            here, there = self.utt2spk.get(utt, "missing"), speaker_of.get(utt, "missing")
            if here != there:
                problem = f"its speaker is {here} in utt2spk, {there} in spk2utt"
                faults.append(DataDirError("speakers", problem, path=path / "spk2utt", utt=utt, remedy=remedy))
        return faults

    def subset(self, utterances: Collection[str]) -> Self:
        """The same directory with only these utterances, and only their recordings, speakers and statistics."""
        wanted = set(utterances)
        segments = {utt: segment for utt, segment in self.segments.items() if utt in wanted}
        recordings = {segment.recording for segment in segments.values()} if self.segments else wanted
        utt2spk = {utt: speaker for utt, speaker in self.utt2spk.items() if utt in wanted}
        owners = wanted | set(utt2spk.values())
        spk2utt = {speaker: [utt for utt in utts if utt in wanted] for speaker, utts in self.spk2utt.items()}
        return type(self)(
            wav={key: name for key, name in self.wav.items() if key in recordings},
            segments=segments,
            text={utt: words for utt, words in self.text.items() if utt in wanted},
            utt2spk=utt2spk,
            spk2utt={speaker: utts for speaker, utts in spk2utt.items() if utts},
            feats={utt: name for utt, name in self.feats.items() if utt in wanted},
            cmvn={key: name for key, name in self.cmvn.items() if key in owners},
            utt2dur={utt: seconds for utt, seconds in self.utt2dur.items() if utt in wanted},
            utt2num_frames={utt: count for utt, count in self.utt2num_frames.items() if utt in wanted},
            utt2uniq={utt: original for utt, original in self.utt2uniq.items() if utt in wanted},
        )

    def write(self, path: str | Path) -> None:
        """Write the directory, every file sorted. A file of these names that would be empty is removed.

        spk2utt is made from utt2spk when it is empty.

        Raises:
            DataError: it cannot be written, or a key or word has white space in it.
        """
        path = Path(path)
        spk2utt = self.spk2utt or turn_round(self.utt2spk)
        columns: dict[str, dict[str, str]] = {
            "wav.scp": self.wav,
            "segments": {utt: s.line() for utt, s in self.segments.items()},
            "text": {utt: " ".join(map(check_token, words)) for utt, words in self.text.items()},
            "utt2spk": {utt: check_token(speaker) for utt, speaker in self.utt2spk.items()},
            "spk2utt": {speaker: " ".join(map(check_token, utts)) for speaker, utts in spk2utt.items()},
            "feats.scp": self.feats,
            "cmvn.scp": self.cmvn,
            "utt2dur": {utt: f"{seconds!r}" for utt, seconds in self.utt2dur.items()},
            "utt2num_frames": {utt: str(count) for utt, count in self.utt2num_frames.items()},
            "utt2uniq": {utt: check_token(original) for utt, original in self.utt2uniq.items()},
        }
        for name, rows in columns.items():
            if not rows:
                remove_file(path / name)
                continue
            lines = (f"{check_token(key)} {rest}".rstrip() + "\n" for key, rest in sorted(rows.items()))
            with open_writer(path / name) as file:
                file.write("".join(lines).encode())


def turn_round(utt2spk: dict[str, str]) -> dict[str, list[str]]:
    """The utterances of each speaker, both sorted, from the speaker of each utterance."""
    spk2utt: dict[str, list[str]] = {}
    for utt, speaker in sorted(utt2spk.items()):
        spk2utt.setdefault(speaker, []).append(utt)
    return dict(sorted(spk2utt.items()))
