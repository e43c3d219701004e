"""Alignments: for each utterance the transition_id of each frame (Kaldi: `ali.*.gz` and hmm/hmm-utils.cc)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError
from acoustic.fsio import remove_file, write_failed, write_text
from acoustic.kaldi.specifiers import is_folder
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel

IntArray = NDArray[np.int32]


def read_model(ali_dir: str | Path) -> TransitionModel:
    """The transition model of an alignment directory (`final.mdl`).

    Raises:
        DataError: missing or damaged.
    """
    return TransitionModel.read(Path(ali_dir) / "final.mdl")


def alignment_rspecifiers(ali_dir: str | Path) -> list[str]:
    """Where the alignments of a directory are: `ali.*.gz` in numeric order, else `ali.ark`, else `ali.scp`.

    Raises:
        DataError: there are none, or the job files are not numbered 1 .. N.
    """
    ali_dir = Path(ali_dir)
    numbers = _job_numbers(ali_dir)
    if numbers:
        _check_jobs(ali_dir, numbers)
        return [f"ark:{ali_dir}/ali.{number}.gz" for number in numbers]
    for kind in ("ark", "scp"):
        if (ali_dir / f"ali.{kind}").exists():
            return [f"{kind}:{ali_dir}/ali.{kind}"]
    raise DataError(
        "no alignments here (ali.*.gz, ali.ark or ali.scp)", path=ali_dir, remedy="give the alignment directory"
    )


def read_alignments(ali_dir: str | Path) -> Iterator[tuple[str, IntArray]]:
    """Each utterance of an alignment directory with its transition_ids, int32 [num_frames].

    Raises:
        DataError: nothing there, a job's file missing, an archive damaged, an utterance aligned twice.
    """
    seen: set[str] = set()
    for rspecifier in alignment_rspecifiers(ali_dir):
        for utt, alignment in read_table(rspecifier, "int_vector"):
            if utt in seen:
                raise DataError("aligned twice", path=ali_dir, utt=utt, remedy="remove one of the two alignments")
            seen.add(utt)
            yield utt, alignment


def read_alignments_of(source: str) -> Iterator[tuple[str, IntArray]]:
    """Each utterance's transition_ids, from an alignment directory or an rspecifier.

    Raises:
        DataError: as `read_alignments`.
    """
    if is_folder(source):
        yield from read_alignments(source)
    else:
        yield from read_table(source, "int_vector")


def write_alignments(ali_dir: str | Path, alignments: Iterable[tuple[str, IntArray]], num_jobs: int = 1) -> None:
    """Write `ali.1.gz` .. `ali.<num_jobs>.gz` and `num_jobs`; utterances are dealt out in contiguous runs.

    Args:
        ali_dir: made if missing; alignments of further jobs in it are removed, other files stay.
        alignments: (utterance, int32 [num_frames] transition_ids) pairs, sorted by utterance.
        num_jobs: how many files; no more than there are utterances.

    Raises:
        DataError: fewer utterances than jobs, or the files cannot be written.
    """
    items = list(alignments)
    if not 1 <= num_jobs <= len(items):
        raise DataError(f"{len(items)} alignments cannot be written as {num_jobs} jobs", path=ali_dir)
    ali_dir = Path(ali_dir)
    try:
        ali_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failed(ali_dir, error) from error
    for job in range(num_jobs):
        begin, end = job * len(items) // num_jobs, (job + 1) * len(items) // num_jobs
        with TableWriter(f"ark:{ali_dir}/ali.{job + 1}.gz", "int_vector") as writer:
            for utt, alignment in items[begin:end]:
                writer.write(utt, alignment)
    for number in _job_numbers(ali_dir):
        if number > num_jobs:  # left by an earlier run with more jobs
            remove_file(ali_dir / f"ali.{number}.gz")
    write_text(ali_dir / "num_jobs", f"{num_jobs}\n")


def check_alignment(model: TransitionModel, utt: str, alignment: IntArray) -> None:
    """Make sure that an alignment can index the arrays of `model`.

    Raises:
        DataError: a transition_id out of range.
    """
    if len(alignment) and not (alignment.min() >= 1 and alignment.max() <= model.num_transition_ids):
        wrong = alignment[(alignment < 1) | (alignment > model.num_transition_ids)][0]
        raise DataError(
            f"transition_id {wrong} in a model of {model.num_transition_ids}: alignments of another model?",
            utt=utt,
            remedy="use the final.mdl that the alignments were made with",
        )


def to_pdfs(model: TransitionModel, utt: str, alignment: IntArray) -> IntArray:
    """The pdf_id of each frame, int32 [num_frames] (ali-to-pdf).

    Raises:
        DataError: as `check_alignment`.
    """
    check_alignment(model, utt, alignment)
    return model.pdf_of[alignment]


def to_phones(model: TransitionModel, utt: str, alignment: IntArray) -> IntArray:
    """The phone of each frame, int32 [num_frames] (ali-to-phones --per-frame=true).

    Raises:
        DataError: as `check_alignment`.
    """
    check_alignment(model, utt, alignment)
    return model.phone_of[alignment]


def count_pdfs(model: TransitionModel, alignments: Iterable[tuple[str, IntArray]]) -> NDArray[np.int64]:
    """How many frames each pdf_id has, int64 [num_pdfs].

    Raises:
        DataError: as `check_alignment`.
    """
    counts = np.zeros(model.num_pdfs, dtype=np.int64)
    for utt, alignment in alignments:
        counts += np.bincount(to_pdfs(model, utt, alignment), minlength=model.num_pdfs)
    return counts


def count_transitions(model: TransitionModel, alignments: Iterable[tuple[str, IntArray]]) -> NDArray[np.float64]:
    """How many frames each transition_id has, float64 [num_transition_ids + 1], for `TransitionModel.reestimated`.

    Raises:
        DataError: as `check_alignment`.
    """
    counts = np.zeros(model.num_transition_ids + 1)
    for utt, alignment in alignments:
        check_alignment(model, utt, alignment)
        counts += np.bincount(alignment, minlength=model.num_transition_ids + 1)
    return counts


def is_reordered(model: TransitionModel, alignment: IntArray) -> bool:
    """Whether self-loops stand behind the arc that leaves their state, as graphs made with --reorder=true have them.

    False also when no self-loop was taken, for then it makes no difference (IsReordered).
    """
    state, loop = model.transition_state_of[alignment], model.is_self_loop[alignment]
    changes = np.flatnonzero((state[:-1] != state[1:]) & (loop[:-1] | loop[1:]))
    if len(changes):
        return bool(loop[changes[0]])
    return len(alignment) > 0 and bool(loop[-1]) and not bool(loop[0])


def reorder(model: TransitionModel, alignment: IntArray) -> IntArray:
    """An alignment whose self-loops stand before the arc that leaves their state, with them behind it.

    Args:
        model: the model of the alignment.
        alignment: int32 [num_frames], of whole phones and not reordered yet (ChangeReorderingOfAlignment).
    """
    ends = np.flatnonzero(~model.is_self_loop[alignment])
    begins = np.append(0, ends[:-1] + 1)[: len(ends)]
    changed = alignment.copy()
    changed[begins], changed[ends] = alignment[ends], alignment[begins]
    return changed


def split_to_phones(
    model: TransitionModel, utt: str, alignment: IntArray, reordered: bool | None = None
) -> list[tuple[int, IntArray]]:
    """Cut an alignment into phones: (phone, its transition_ids) pairs (SplitToPhones).

    Args:
        model: the model of the alignment.
        utt: for messages.
        alignment: int32 [num_frames].
        reordered: whether self-loops come last in a state; found out from the alignment by default.

    Raises:
        DataError: as `check_alignment`, or an alignment that begins or ends inside a phone or jumps between phones.
    """
    check_alignment(model, utt, alignment)
    if len(alignment) == 0:
        return []
    if reordered is None:
        reordered = is_reordered(model, alignment)
    ends = model.is_final[alignment].copy()
    if reordered:
        ends = _after_self_loops(model, alignment, ends)
    boundaries = (np.flatnonzero(ends) + 1).tolist()
    segments = np.split(alignment, boundaries)
    last = segments.pop()
    if len(last) or not all(_is_one_phone(model, segment) for segment in segments):
        raise DataError("the alignment does not consist of whole phones", utt=utt, remedy="align the utterance again")
    return [(int(model.phone_of[segment[0]]), segment) for segment in segments]


def _after_self_loops(model: TransitionModel, alignment: IntArray, ends: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Move the end of each phone behind the self-loops that follow its final arc."""
    not_loops = np.append(np.flatnonzero(~model.is_self_loop[alignment]), len(alignment))
    moved = np.zeros_like(ends)
    moved[not_loops[np.searchsorted(not_loops, np.flatnonzero(ends), side="right")] - 1] = True
    return moved


def _is_one_phone(model: TransitionModel, segment: IntArray) -> bool:
    """Whether all frames are of one phone and the first is of its first emitting state."""
    phones = model.phone_of[segment]
    if np.any(phones != phones[0]):
        return False
    starts_at_first = model.hmm_state_of[segment[0]] == 0
    return bool(starts_at_first) or model.topology.entry(int(phones[0]))[0].forward_pdf_class < 0


def _job_numbers(ali_dir: Path) -> list[int]:
    """N of each `ali.N.gz`, sorted."""
    matches = (re.fullmatch(r"ali\.(\d+)\.gz", path.name) for path in ali_dir.glob("ali.*.gz"))
    return sorted(int(match[1]) for match in matches if match)


def _check_jobs(ali_dir: Path, numbers: list[int]) -> None:
    """Make sure that the files of all jobs are there, going by their numbers and by the `num_jobs` file."""
    expected = numbers[-1]
    num_jobs = ali_dir / "num_jobs"
    if num_jobs.exists():
        text = num_jobs.read_text(encoding="ascii", errors="replace").strip()
        if not (text.isdigit() and len(text) < 10):
            raise DataError(f"expected a number, found {text[:40]!r}", path=num_jobs)
        expected = int(text)
    gap = next(job for job in range(1, len(numbers) + 2) if job not in numbers)
    if gap > len(numbers) and len(numbers) == expected:
        return
    found = f"ali.{gap}.gz is missing" if gap <= expected else f"{len(numbers)} files"
    raise DataError(f"{found}, but there are {expected} jobs", path=ali_dir, remedy="run the alignment again")
