"""Checks of the alignments against the data directory, its features and the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Finding, Severity
from acoustic.doctor.scan_alignments import REMEDY
from acoustic.kaldi.steps import LEAST_LEGAL_SHARE


def check_alignments(experiment: Experiment) -> Iterator[Finding]:
    """Archives that are missing, damaged or empty, alignments that are empty, twice there or of unknown ids."""
    if experiment.alignments is not None:
        yield from experiment.alignments.findings


def check_aligned_utterances(experiment: Experiment) -> Iterator[Finding]:
    """Utterances without alignment, and alignments without utterance."""
    alignments = experiment.alignments
    if alignments is None or not alignments.complete:
        return
    at_fault = {finding.where for finding in alignments.findings}
    for utt in experiment.utterances:
        if utt not in alignments.num_frames and utt not in at_fault:
            detail = f"is not in {experiment.options.ali_dir}"
            yield Finding("no alignment", Severity.SKIP, utt, detail, REMEDY, (utt,), cleanable=True)
    others = sorted(alignments.num_frames.keys() - set(experiment.utterances))
    for utt in others:
        remedy = "right when the alignments are of a larger set"
        yield Finding("alignment without utterance", Severity.NOTE, utt, "is not in the data directory", remedy)


def check_lengths(experiment: Experiment) -> Iterator[Finding]:
    """Alignments and features that differ by more frames than is accepted."""
    alignments, feats, tolerance = experiment.alignments, experiment.feats, experiment.options.length_tolerance
    if alignments is None or feats is None:
        return
    for utt, num_frames in feats.num_frames.items():
        num_aligned = alignments.num_frames.get(utt, num_frames)
        if abs(num_aligned - num_frames) > tolerance:
            detail = f"{num_frames} frames of features, {num_aligned} of alignment"
            remedy = "align with features of the same frame shift and segments, or leave it out (--fix)"
            yield Finding("lengths differ", Severity.ERROR, utt, detail, remedy, (utt,), cleanable=True)


def check_steps(experiment: Experiment) -> Iterator[Finding]:
    """Alignments that are no paths through the model's HMMs: made with another model."""
    alignments = experiment.alignments
    if alignments is None or alignments.has_foreign_ids:
        return
    share = alignments.legal_share
    if share < LEAST_LEGAL_SHARE:
        yield Finding(
            "alignments of another model",
            Severity.ERROR,
            str(experiment.options.ali_dir),
            f"only {share:.0%} of the steps between HMM states are possible in final.mdl",
            "use the final.mdl and tree that the alignments were made with",
        )


def check_unseen_pdfs(experiment: Experiment) -> Iterator[Finding]:
    """Pdfs that no frame of the data is aligned to: not learnt, and disabled in decoding."""
    alignments = experiment.alignments
    if alignments is None or not alignments.complete or not alignments.pdf_counts.any():
        return
    if alignments.has_foreign_ids or alignments.legal_share < LEAST_LEGAL_SHARE:
        return  # reported already; the counts mean nothing
    unseen = np.flatnonzero(alignments.pdf_counts == 0).tolist()
    for pdf_id in unseen:
        if alignments.pdf_counts_outside[pdf_id]:
            detail = "is seen in other utterances of the alignments only"
            remedy = "right for a dev or test set; in training add data, or build a smaller tree"
            yield Finding("pdf never seen here", Severity.NOTE, f"pdf {pdf_id}", detail, remedy)
        else:
            remedy = "add data, or build a smaller tree"
            yield Finding("pdf never seen", Severity.WARNING, f"pdf {pdf_id}", "has no frame at all", remedy)
