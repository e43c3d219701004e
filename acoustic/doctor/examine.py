"""All checks, in the order in which their findings are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from acoustic.doctor.check_alignments import (
    check_aligned_utterances,
    check_alignments,
    check_lengths,
    check_steps,
    check_unseen_pdfs,
)
from acoustic.doctor.check_audio import check_audio, check_durations, check_frames_of_audio, check_rates
from acoustic.doctor.check_features import (
    check_cmvn,
    check_constant_coefficients,
    check_dimensions,
    check_features,
    check_num_frames,
)
from acoustic.doctor.check_files import check_lines, check_membership, check_required_files, check_text
from acoustic.doctor.check_graphs import check_graph, check_lang, check_symbol_tables, check_vocabulary
from acoustic.doctor.check_models import (
    check_class_counts,
    check_kaldi_net,
    check_models_readable,
    check_network,
    check_one_system,
    check_trees,
)
from acoustic.doctor.check_transforms import check_final_mat, check_fmllr
from acoustic.doctor.experiment import Experiment
from acoustic.doctor.findings import Finding, Report

Check = Callable[[Experiment], Iterator[Finding]]

# What costs little comes first.
CHECKS: tuple[Check, ...] = (
    check_required_files,
    check_lines,
    check_membership,
    check_text,
    check_models_readable,
    check_trees,
    check_one_system,
    check_network,
    check_kaldi_net,
    check_class_counts,
    check_graph,
    check_symbol_tables,
    check_vocabulary,
    check_lang,
    check_alignments,
    check_steps,
    check_aligned_utterances,
    check_unseen_pdfs,
    check_features,
    check_dimensions,
    check_constant_coefficients,
    check_num_frames,
    check_lengths,
    check_cmvn,
    check_final_mat,
    check_fmllr,
    check_audio,
    check_rates,
    check_durations,
    check_frames_of_audio,
)


def examine(experiment: Experiment) -> Report:
    """Run every check.

    Raises:
        DataError: a worker process died.
    """
    report = Report(len(experiment.utterances), experiment.options.max_skip_fraction)
    for check in CHECKS:
        report.findings += check(experiment)
    return report
