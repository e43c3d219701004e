"""The numbers behind the report, one CSV file for each kind."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from acoustic.analysis.dataset import DataSet
from acoustic.analysis.examine import Examined
from acoustic.analysis.gaaf import THRESHOLDS
from acoustic.analysis.recogniser import NUM_BINS
from acoustic.analysis.speakers import speaker_wers

Rows = Iterable[Sequence[object]]


def tables(models: list[Examined], data: DataSet) -> dict[str, str]:
    """File name -> contents; the first column of each is the model."""
    made = {
        "models.csv": (
            ["model", "parameters", "frames", "accuracy", "accuracy_without_silence", "phone_accuracy", "cross_entropy",
             "calibration_error", "mean_entropy", "silence_aligned", "silence_decided", "silence_mass", "wer"],
            _models(models),
        ),
        "layers.csv": (
            ["model", "layer", "activation", "units", "sparsity", "dispersion", "code_length", "code_length_std",
             "zero_share", "dead_share", "saturated_share", "pairs", *(f"pairs_above_{limit}" for limit in THRESHOLDS)],
            _layers(models),
        ),
        "gradients.csv": (
            ["model", "layer", "gradient_information_trained", "gradient_information_evaluated", "net_variance"],
            ([m.label, g.name, g.trained, g.evaluated, g.net_variance] for m in models for g in m.gradients),
        ),
        "units.csv": (["model", "layer", "unit", "activation_probability", "lower_end_only"], _units(models)),
        "detectors.csv": (
            ["model", "layer", "criterion", "phone", "unit", "threshold", "precision", "recall", "accuracy", "f1"],
            ([m.label, r.layer, r.criterion, r.phone, r.detector.unit, r.detector.threshold, r.detector.precision,
              r.detector.recall, r.detector.accuracy, r.detector.f1] for m in models for r in m.detectors),
        ),
        "phones.csv": (["model", "phone", "hmm_state", "frames", "accuracy", "cross_entropy"], _phones(models, data)),
        "confusion.csv": (["model", "phone", "taken_for", "frames"], _confusion(models, data)),
        "calibration.csv": (["model", "bin_begin", "frames", "confidence", "accuracy"], _calibration(models)),
        "entropy.csv": (["model", "bin_begin_relative", "frames_wrong", "frames_right"], _entropy(models)),
        "priors.csv": (
            ["model", "pdf_id", "prior", "mean_posterior", "share_of_frames"],
            ([m.label, pdf, m.prior[pdf], m.frames.mean_posterior[pdf], m.frames.pdf_counts[pdf] / m.frames.num_frames]
             for m in models for pdf in range(m.model.num_pdfs)),
        ),
        "utterances.csv": (
            ["model", "utterance", "frames", "accuracy", "cross_entropy", "words", "errors", "reference", "hypothesis"],
            _utterances(models, data),
        ),
    }  # fmt: skip
    decoded = [model for model in models if model.scores is not None]
    if decoded:
        made["speakers.csv"] = (
            ["model", "speaker", "words", "errors", "wer", "low", "high"],
            ([m.label, row.speaker, row.num_words, row.num_errors, row.wer, row.low, row.high]
             for m in decoded if m.scores for row in speaker_wers(m.scores, data.data_dir.utt2spk)),
        )  # fmt: skip
    return {name: to_csv(header, rows) for name, (header, rows) in made.items()}


def to_csv(header: Sequence[str], rows: Rows) -> str:
    """A CSV file; numbers with the digits that single precision has."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"{item:.8g}" if isinstance(item, float | np.floating) else item for item in row])
    return buffer.getvalue()


def _models(models: list[Examined]) -> Iterator[Sequence[object]]:
    for model in models:
        frames = model.frames
        yield [
            model.label, model.model.classifier.num_parameters, frames.num_frames, frames.accuracy,
            frames.accuracy_without_silence, frames.phone_accuracy, frames.cross_entropy,
            frames.calibration.expected_error, frames.mean_entropy, *frames.silence_shares.values(),
            model.scores.wer if model.scores else "",
        ]  # fmt: skip


def _layers(models: list[Examined]) -> Iterator[Sequence[object]]:
    for model in models:
        for layer in model.layers:
            yield [
                model.label, layer.name, layer.activation, len(layer.probability), layer.sparsity, layer.dispersion,
                layer.code_length, layer.code_length_std, layer.zero_share, layer.dead_share, layer.saturated_share,
                layer.num_pairs, *layer.pairs_above.values(),
            ]  # fmt: skip


def _units(models: list[Examined]) -> Iterator[Sequence[object]]:
    for model in models:
        for layer in model.layers:
            for unit, values in enumerate(zip(layer.probability, layer.lower_probability, strict=True)):
                yield [model.label, layer.name, unit, *values]


def _phones(models: list[Examined], data: DataSet) -> Iterator[Sequence[object]]:
    for model in models:
        frames = model.frames
        for phone, state in zip(*np.nonzero(frames.frames), strict=True):
            count = frames.frames[phone, state]
            means = frames.correct[phone, state] / count, frames.loss[phone, state] / count
            yield [model.label, data.phones.names[phone], int(state), int(count), *means]


def _confusion(models: list[Examined], data: DataSet) -> Iterator[Sequence[object]]:
    names = data.phones.names
    for model in models:
        for phone, other in zip(*np.nonzero(model.frames.confusion), strict=True):
            yield [model.label, names[phone], names[other], int(model.frames.confusion[phone, other])]


def _calibration(models: list[Examined]) -> Iterator[Sequence[object]]:
    for model in models:
        found = model.frames.calibration
        for number, row in enumerate(zip(found.counts, found.confidence, found.accuracy, strict=True)):
            yield [model.label, number / NUM_BINS, *row]


def _entropy(models: list[Examined]) -> Iterator[Sequence[object]]:
    for model in models:
        for number, (wrong, right) in enumerate(model.frames.entropy_counts.T):
            yield [model.label, number / NUM_BINS, int(wrong), int(right)]


def _utterances(models: list[Examined], data: DataSet) -> Iterator[Sequence[object]]:
    for model in models:
        counts = {}
        if model.scores is not None:
            pairs = zip(model.scores.num_words.tolist(), model.scores.num_errors.tolist(), strict=True)
            counts = dict(zip(model.scores.utts, pairs, strict=True))
        for utt, spoken in model.utterances.items():
            words, errors = counts.get(utt, ("", ""))
            reference, hypothesis = " ".join(data.data_dir.text.get(utt, [])), " ".join(spoken.words or [])
            yield [
                model.label, utt, spoken.num_frames, spoken.accuracy, spoken.cross_entropy, words, errors, reference,
                hypothesis,
            ]  # fmt: skip
