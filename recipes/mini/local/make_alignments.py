#!/usr/bin/env python3
"""Turn known phone times into what a Kaldi monophone system would leave behind.

Writes MODEL_DIR/{tree,final.mdl} (a monophone tree; a transition model estimated from the alignments)
and ALI_DIR/{ali.*.gz,num_jobs,tree,final.mdl}. The data directories must hold phones.ctm and wav.scp.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from acoustic import log
from acoustic.errors import AcousticError, DataError
from acoustic.fsio import atomic_write
from acoustic.kaldi.alignments import count_transitions, write_alignments
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree, read_phone_sets

FRAME_LENGTH_S, FRAME_SHIFT_S = 0.025, 0.010

Times = list[tuple[str, float, float]]
"""(phone, begin, end) of one utterance, in seconds."""

IntArray = NDArray[np.int32]


def num_frames(wav: str) -> int:
    """How many whole windows fit into a recording (snip-edges)."""
    info = soundfile.info(wav)
    length, shift = round(FRAME_LENGTH_S * info.samplerate), round(FRAME_SHIFT_S * info.samplerate)
    return max(0, 1 + (info.frames - length) // shift)


def frame_boundaries(times: Times, frames: int, min_frames: int) -> IntArray | None:
    """The first frame of each phone and, last, the number of frames: int32 [num_phones + 1].

    A frame belongs to the phone at its window's centre. Where a phone would get less than `min_frames`, boundaries are
    moved by the least sum of squares that gives every phone so many. None if they do not fit into the utterance.
    """
    if min_frames * len(times) > frames:
        return None
    centre = 0.5 * FRAME_LENGTH_S
    wanted = np.array([np.ceil((begin - centre) / FRAME_SHIFT_S - 1e-9) for _, begin, _ in times[1:]])
    # boundary[i] - min_frames * i must not fall: isotonic regression, within what the utterance's edges allow.
    offsets = min_frames * np.arange(1, len(times))
    slack = frames - min_frames * len(times)
    moved = np.clip(np.floor(isotonic(wanted - offsets) + 0.5), 0, slack)
    return np.concatenate([[0], moved + offsets, [frames]]).astype(np.int32)


def isotonic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest non-decreasing sequence in least squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []  # mean, length
    for value in values:
        mean, length = float(value), 1
        while blocks and blocks[-1][0] > mean:
            other_mean, other_length = blocks.pop()
            mean = (mean * length + other_mean * other_length) / (length + other_length)
            length += other_length
        blocks.append((mean, length))
    return np.repeat([mean for mean, _ in blocks], [length for _, length in blocks])


def state_lengths(num_states: int, frames: int) -> list[int]:
    """Deal `frames` out evenly to the states of a phone."""
    edges = [round(state * frames / num_states) for state in range(num_states + 1)]
    return [end - begin for begin, end in pairwise(edges)]


def phone_transitions(model: TransitionModel, phone: int, frames: int) -> list[int]:
    """The transition_ids of a phone that passes evenly through all its states, self-loops last as in Kaldi's graphs.

    Raises:
        DataError: the phone's topology is not a chain of states.
    """
    ids: list[int] = []
    states = model.topology.entry(phone)
    for hmm_state, length in enumerate(state_lengths(len(states) - 1, frames)):
        transition_state = _monophone_state(model, phone, hmm_state)
        destinations = [destination for destination, _ in states[hmm_state].transitions]
        if sorted(destinations) != [hmm_state, hmm_state + 1]:
            raise DataError(
                f"state {hmm_state} of phone {phone} goes to {destinations}, expected a chain of states",
                remedy="make the lang directory with --num-sil-states=3",
            )
        leave = model.transition_ids(transition_state)[destinations.index(hmm_state + 1)]
        ids += [leave] + [int(model.self_loop_of[transition_state])] * (length - 1)
    return ids


def _monophone_state(model: TransitionModel, phone: int, hmm_state: int) -> int:
    """The only transition_state of a phone's HMM state (0-based state, 1-based result)."""
    rows = np.flatnonzero((model.tuples[:, 0] == phone) & (model.tuples[:, 1] == hmm_state))
    return int(rows[0]) + 1


def read_ctm(path: Path) -> Iterator[tuple[str, Times]]:
    """Each utterance of a CTM file of phones (utterance, channel, begin, duration, phone)."""
    times: dict[str, Times] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if len(fields) != 5:
            raise DataError(f"expected 5 fields, found {len(fields)}", path=path, line=number)
        begin, duration = float(fields[2]), float(fields[3])
        times.setdefault(fields[0], []).append((fields[4], begin, begin + duration))
    yield from times.items()


def align(data_dir: Path, model: TransitionModel, phone_ids: dict[str, int], tally: log.Tally) -> dict[str, IntArray]:
    """The transition_ids of each utterance of a data directory, int32 [num_frames]."""
    wavs = dict(line.split(maxsplit=1) for line in (data_dir / "wav.scp").read_text(encoding="utf-8").splitlines())
    alignments: dict[str, IntArray] = {}
    num_states = max(len(model.topology.entry(phone)) - 1 for phone in model.topology.phones)
    for utt, times in read_ctm(data_dir / "phones.ctm"):
        boundaries = frame_boundaries(times, num_frames(wavs[utt]), num_states)
        if boundaries is None:
            tally.skip("shorter than its phones", utt)
            continue
        lengths = np.diff(boundaries)
        phones = [phone_ids[phone] for phone, _, _ in times]
        ids = [
            i for phone, frames in zip(phones, lengths, strict=True) for i in phone_transitions(model, phone, frames)
        ]
        alignments[utt] = np.array(ids, dtype=np.int32)
        tally.done()
    return alignments


def write_model(folder: Path, tree: DecisionTree, model: TransitionModel) -> None:
    """tree and final.mdl; the latter holds the transition model only."""
    tree.write(folder / "tree")
    with atomic_write(folder / "final.mdl") as file:
        file.write(b"\0B")
        model.write(file)


def run(args: argparse.Namespace) -> None:
    """Make the model, align, estimate the transition probabilities, write."""
    topology = Topology.read(args.lang_dir / "topo")
    tree = DecisionTree.monophone(topology, read_phone_sets(args.lang_dir / "phones" / "sets.int"))
    model = TransitionModel.from_tree(tree, topology)
    phone_ids = SymbolTable.read(args.lang_dir / "phones.txt").id_of
    tally = log.Tally()
    alignments: dict[str, IntArray] = {}
    for data_dir in args.data_dirs:
        alignments |= align(data_dir, model, phone_ids, tally)
    tally.check()
    items = sorted(alignments.items())
    model = model.reestimated(count_transitions(model, items))
    for folder in (args.model_dir, args.ali_dir):
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder, tree, model)
    write_alignments(args.ali_dir, items, args.num_jobs)
    log.get_logger("make_alignments").info(tally.summary(f"{model.num_pdfs} pdfs"))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-jobs", type=int, default=2, help="files of alignments (default: %(default)s)")
    parser.add_argument("lang_dir", type=Path)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("ali_dir", type=Path)
    parser.add_argument("data_dirs", type=Path, nargs="+")
    log.set_up()
    try:
        run(parser.parse_args())
    except AcousticError as error:
        print(f"make_alignments.py: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
