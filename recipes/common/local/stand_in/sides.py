"""Utterances joined into recordings of one speaker each, as the sides of telephone conversations are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from acoustic.features.audio import read_audio
from acoustic.kaldi.datadir import DataDir, Segment

MAX_UTTERANCES = 25
"""In one side."""
GAP_S = 0.5
"""Of silence between the utterances of a side; its beginning and end fall on whole centiseconds."""


@dataclass(frozen=True)
class Side:
    """One speaker's recording.

    Attributes:
        name: of recording and speaker, such as sw_4000-A.
        utterances: the name that each utterance had, in the order in which they are joined.
    """

    name: str
    utterances: list[str]


def divide(data_dirs: Iterable[DataDir], beginnings: tuple[str, ...]) -> Iterator[Side]:
    """The sides of some data directories: up to 25 utterances of a speaker each, named by turns after `beginnings`."""
    names = (f"{beginning}{number:03d}-A" for number, beginning in zip(count(), cycle(beginnings)))
    for data_dir in data_dirs:
        for utterances in data_dir.spk2utt.values():
            remaining = iter(utterances)
            while part := list(islice(remaining, MAX_UTTERANCES)):
                yield Side(next(names), part)


def write_set(folder: Path, sides: list[Side], sources: list[DataDir], audio_dir: Path) -> dict[str, str]:
    """A data directory of these sides and their audio.

    Args:
        folder: the data directory to make: wav.scp, segments, text, utt2spk, spk2utt, reco2file_and_channel.
        sides: which utterances.
        sources: where they are.
        audio_dir: receives a wave file for each side.

    Returns:
        the new name of each utterance, side_begin-end in centiseconds.
    """
    wav = {utt: name for source in sources for utt, name in source.wav.items()}
    text = {utt: words for source in sources for utt, words in source.text.items()}
    data_dir, new_names = DataDir(), {}
    audio_dir.mkdir(parents=True, exist_ok=True)
    for side in sides:
        pieces: list[NDArray[np.int16]] = []
        position = 0.0
        for utt in side.utterances:
            samples, rate = read_audio(wav[utt])
            end = position + len(samples) / rate
            name = f"{side.name}_{round(100 * position):06d}-{round(100 * end):06d}"
            new_names[utt] = name
            data_dir.segments[name] = Segment(side.name, position, end)
            data_dir.text[name] = text[utt]
            data_dir.utt2spk[name] = side.name
            next_position = round(end + GAP_S, 2)
            gap = round(rate * next_position) - round(rate * position) - len(samples)
            pieces += [np.round(samples).astype(np.int16), np.zeros(gap, np.int16)]
            position = next_position
        path = audio_dir / f"{side.name}.wav"
        soundfile.write(path, np.concatenate(pieces), rate)
        data_dir.wav[side.name] = str(path)
    folder.mkdir(parents=True, exist_ok=True)
    data_dir.write(folder)
    channels = (f"{side.name} {side.name.removesuffix('-A')} A\n" for side in sorted(sides, key=lambda side: side.name))
    (folder / "reco2file_and_channel").write_text("".join(channels), encoding="utf-8")
    return new_names


STM_HEAD = ';; CATEGORY "0" "" ""\n;; LABEL "O" "Overall" "Overall"\n'
GLM = """;;
* name "stand_in.glm"
* desc "no rules but one for hesitations"
* format = 'NIST1'
* max_nrules = '100'
* copy_no_hit = 'T'
* case_sensitive = 'F'

UM => %HESITATION / [ ] __ [ ]
"""


def write_references(folder: Path) -> None:
    """What sclite scores against: stm (file, channel, speaker, begin, end, label, words) and glm."""
    data_dir = DataDir.read(folder)
    lines = []
    for utt, segment in data_dir.segments.items():
        file = segment.recording.removesuffix("-A")
        words = " ".join(data_dir.text[utt])
        lines.append(f"{file} A {file}_A {segment.begin:.2f} {segment.end:.2f} <O> {words}\n")
    (folder / "stm").write_text(STM_HEAD + "".join(lines), encoding="utf-8")
    (folder / "glm").write_text(GLM, encoding="utf-8")
