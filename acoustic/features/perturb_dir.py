"""Speed-perturbed copies of data directories and of alignment directories."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.features.audio import FloatArray, Utterance, reason_of, utterances_of_dir
from acoustic.features.fbank import FbankOptions
from acoustic.features.perturb import perturb_speed, stretch_labels
from acoustic.fsio import atomic_dir
from acoustic.kaldi.alignments import alignment_rspecifiers, read_alignments, write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.log import Tally, progress

# The lowest compression costs half the time and 1 % more space than flac's default.
FORMAT_OPTIONS: dict[str, dict[str, float]] = {"flac": {"compression_level": 0.0}, "wav": {}}
AUDIO_FORMATS = tuple(FORMAT_OPTIONS)

# What an alignment directory holds besides alignments; copied where it is there.
MODEL_FILES = ("final.mdl", "tree", "phones.txt", "cmvn_opts", "delta_opts", "splice_opts", "final.mat")

# Tells alignment directories made here from others, which are not replaced: the speeds, one in a line.
SPEEDS_FILE = "speeds"

# Frames by which an alignment may differ from the audio (Kaldi's length tolerance).
LENGTH_TOLERANCE = 5


@dataclass(frozen=True)
class Perturbed:
    """One utterance of the new directory.

    Attributes:
        source: the utterance it was made of.
        prefix: what stands before its id and its speaker's.
        speed: how much faster it is.
        audio: rxfilename.
        num_samples: of the new audio.
        rate: in Hz.
    """

    source: str
    prefix: str
    speed: Fraction
    audio: str
    num_samples: int
    rate: int

    @property
    def utt(self) -> str:
        """Its id, such as sp0.9-utt1."""
        return self.prefix + self.source


def perturb_data_dir(
    data_dir: DataDir,
    out_dir: str | Path,
    speeds: Mapping[str, Fraction],
    tally: Tally,
    *,
    channel: int | None = None,
    audio_format: str = "flac",
    num_jobs: int = 1,
) -> list[Perturbed]:
    """Write a data directory with each utterance at each speed, its audio in the subdirectory `audio`.

    As Kaldi's perturb_data_dir_speed.sh, utterances and speakers are prefixed with `spSPEED-`, and utt2uniq tells what
    each is a copy of. At speed 1 both keep their ids, and whole recordings their files. Segments are cut: in the new
    directory every utterance is a recording.

    Args:
        data_dir: what to copy.
        out_dir: made, or, if it was made here, replaced when all is written.
        speeds: factors, by what to call them ("0.9").
        tally: counts the utterances read and skipped; when too many are, nothing is written.
        channel: which channel of recordings with several.
        audio_format: flac or wav, both of 16 bits.
        num_jobs: worker threads.

    Returns:
        What was written, sorted by utterance.

    Raises:
        DataError: too much unusable audio, or the directory cannot be written.
    """
    written: list[Perturbed] = []
    # Data directories of others have a wav.scp, too.
    with atomic_dir(out_dir, "audio") as folder, ThreadPoolExecutor(num_jobs) as pool:
        # The folder gets its final name at the end: files are written here, but are to be found there.
        here, there = folder / "audio", Path(os.path.abspath(out_dir)) / "audio"
        here.mkdir()

        def perturb(utterance: Utterance) -> list[Perturbed] | tuple[str, DataError]:
            try:
                samples, rate = utterance.read()
            except DataError as error:
                return utterance.utt, error
            return list(_copies(utterance, samples, rate, speeds, here, there, audio_format))

        for result in progress(pool.map(perturb, utterances_of_dir(data_dir, channel)), "perturb"):
            if isinstance(result, tuple):
                utt, error = result
                tally.skip(reason_of(error), utt, str(error))
            else:
                tally.done()
                written += result
        tally.check()
        written.sort(key=lambda item: item.utt)
        _new_dir(data_dir, written).write(folder)
    return written


def _copies(
    utterance: Utterance,
    samples: FloatArray,
    rate: int,
    speeds: Mapping[str, Fraction],
    here: Path,
    there: Path,
    audio_format: str,
) -> Iterator[Perturbed]:
    """Write one utterance at every speed."""
    for name, speed in speeds.items():
        if speed == 1 and utterance.segment is None:
            audio = absolute(utterance.recording.rxfilename)
            yield Perturbed(utterance.utt, "", speed, audio, len(samples), rate)
            continue
        prefix = "" if speed == 1 else f"sp{name}-"
        perturbed = perturb_speed(samples, speed)
        file_name = f"{prefix}{utterance.utt}.{audio_format}".replace("/", "_")
        pcm = np.clip(np.rint(perturbed), -32768, 32767).astype(np.int16)
        # Encoded in memory: of a full disk libsndfile knows no more than "System error", in an exception of its own.
        encoded = io.BytesIO()
        soundfile.write(encoded, pcm, rate, format=audio_format, subtype="PCM_16", **FORMAT_OPTIONS[audio_format])
        (here / file_name).write_bytes(encoded.getbuffer())
        yield Perturbed(utterance.utt, prefix, speed, str(there / file_name), len(perturbed), rate)


def absolute(rxfilename: str) -> str:
    """An rxfilename that means the same in any working directory; commands stay as they are."""
    return rxfilename if rxfilename.endswith("|") or rxfilename == "-" else os.path.abspath(rxfilename)


def _new_dir(data_dir: DataDir, written: list[Perturbed]) -> DataDir:
    """The data directory of the written utterances."""
    return DataDir(
        wav={item.utt: item.audio for item in written},
        text={item.utt: data_dir.text[item.source] for item in written if item.source in data_dir.text},
        utt2spk={
            item.utt: item.prefix + data_dir.utt2spk[item.source] for item in written if item.source in data_dir.utt2spk
        },
        utt2dur={item.utt: item.num_samples / item.rate for item in written},
        utt2uniq={item.utt: data_dir.utt2uniq.get(item.source, item.source) for item in written},
    )


def perturb_ali_dir(
    ali_dir: str | Path, out_dir: str | Path, written: list[Perturbed], framing: FbankOptions, tally: Tally
) -> None:
    """Write alignments of perturbed utterances: frames repeated or dropped, as `stretch_labels` says.

    They are labels for training a frame classifier, not valid paths through the HMMs.

    Args:
        ali_dir: alignments of the utterances that were perturbed, with final.mdl and tree.
        out_dir: made, or replaced if it was made here.
        written: what `perturb_data_dir` returned.
        framing: frame length, shift and snip_edges of the features; its rate is replaced by the audio's.
        tally: counts alignments written and skipped (no_alignment, length_mismatch).

    Raises:
        DataError: alignments missing or damaged, too many skipped, or the directory cannot be written.
    """
    labels = dict(read_alignments(ali_dir))
    num_jobs = len(alignment_rspecifiers(ali_dir))
    stretched: list[tuple[str, NDArray[np.int32]]] = []
    for item in written:
        if item.source not in labels:
            tally.skip("no_alignment", item.utt, f"{item.source} is not in {ali_dir}")
            continue
        options = FbankOptions(
            sample_frequency=item.rate,
            frame_length=framing.frame_length,
            frame_shift=framing.frame_shift,
            snip_edges=framing.snip_edges,
        )
        source_frames = options.num_frames(round(item.num_samples * item.speed))
        num_labels = len(labels[item.source])
        if abs(num_labels - source_frames) > LENGTH_TOLERANCE or num_labels == 0:
            tally.skip("length_mismatch", item.utt, f"{num_labels} aligned frames, {source_frames} in the audio")
            continue
        tally.done()
        alignment = labels[item.source]
        if item.speed != 1:
            num_frames = options.num_frames(item.num_samples)
            size, shift = options.window_size, options.window_shift
            alignment = stretch_labels(alignment, num_frames, item.speed, size, shift)
        stretched.append((item.utt, alignment))
    tally.check()
    with atomic_dir(out_dir, SPEEDS_FILE) as folder:
        speeds = sorted({float(item.speed) for item in written})
        (folder / SPEEDS_FILE).write_text("".join(f"{speed:g}\n" for speed in speeds))
        for name in MODEL_FILES:
            if (Path(ali_dir) / name).exists():
                shutil.copyfile(Path(ali_dir) / name, folder / name)
        write_alignments(folder, stretched, min(num_jobs, len(stretched)))
