"""One model on one data set: everything the report shows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acoustic.analysis.dataset import DataSet, Labelled
from acoustic.analysis.filters import DetectorRow, Filters, describe_detectors, describe_filters
from acoustic.analysis.layers import Gradients, Layer, describe_gradients, describe_layers, run_layers
from acoustic.analysis.recogniser import FrameStatistics
from acoustic.analysis.records import read_records
from acoustic.analysis.search import Recogniser
from acoustic.decode.decoder import NoPathError, Result
from acoustic.decode.forward import BLOCK_FRAMES, AcousticModel
from acoustic.decode.provenance import check_same_model
from acoustic.decode.wer import Scores, score
from acoustic.log import Tally, progress


@dataclass(frozen=True)
class Spoken:
    """What became of one utterance.

    Attributes:
        num_frames: its length.
        cross_entropy: mean over its frames [nats].
        accuracy: its frame accuracy.
        words: the hypothesis; None if nothing was decoded.
        path: transition_ids of the best path, or None.
    """

    num_frames: int
    cross_entropy: float
    accuracy: float
    words: list[str] | None = None
    path: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Examined:
    """A model and what was found.

    Attributes:
        label: what the report calls it.
        model: the network with its front end.
        records: lines of the training's metrics.jsonl, if they are there.
        layers, gradients: of the hidden layers; gradients of the output layer too.
        filters: of the first layer, None without hidden layers.
        detectors: single units as phone detectors.
        frames: sums over all frames.
        utterances: by name.
        scores: word errors, None if nothing was decoded.
        num_sampled: frames in the sample.
    """

    label: str
    model: AcousticModel
    records: list[dict[str, Any]]
    layers: list[Layer]
    gradients: list[Gradients]
    filters: Filters | None
    detectors: list[DetectorRow]
    frames: FrameStatistics
    utterances: dict[str, Spoken]
    scores: Scores | None
    num_sampled: int

    @property
    def prior(self) -> NDArray[np.float64]:
        """[num_pdfs], relative frequencies in the training alignments."""
        counts = self.model.bundle.pdf_counts.double()
        return (counts / counts.sum()).numpy()

    def worst(self, count: int) -> list[str]:
        """The utterances with most word errors, or where nothing was decoded with the highest cross-entropy."""
        order = {utt: spoken.cross_entropy for utt, spoken in self.utterances.items()}
        if self.scores is None:
            return sorted(order, key=lambda utt: -order[utt])[:count]
        errors = dict(zip(self.scores.utts, self.scores.num_errors.tolist(), strict=True))
        wrong = [utt for utt in order if errors.get(utt, 0) > 0]
        return sorted(wrong, key=lambda utt: (-errors[utt], -order[utt]))[:count]


def examine(
    label: str, path: str | Path, data: DataSet, num_frames: int, recogniser: Recogniser | None, device: torch.device
) -> Examined:
    """Run one model over the data.

    Args:
        label: what to call it.
        path: exp_dir or final.pt.
        data: the labelled utterances.
        num_frames: frames in the sample for the statistics of hidden units.
        recogniser: decodes the utterances, None to leave words alone.
        device: where to compute.

    Raises:
        DataError: the network was trained on alignments of another model, or too many utterances cannot be used.
    """
    model = AcousticModel.load(path, device=device)
    here = {"transition_model": data.transition_model.fingerprint()}
    check_same_model(model.bundle.fingerprints, here, path, "the alignments of --ali-dir")
    tally, sample = Tally(), Sample(data, model, num_frames)
    frames = FrameStatistics(
        data.phones.phone_of_pdf(data.transition_model, data.alignments.values()), data.num_states, data.phones.silence
    )
    utterances: dict[str, Spoken] = {}
    labelled = progress(data.frames(model, tally), f"frames of {label}", total=len(data.alignments))
    for item, log_posteriors in with_log_posteriors(model, labelled):
        sample.take(item)
        matrix = log_posteriors.cpu().numpy()
        result = recogniser.decode(model, log_posteriors) if recogniser else None
        transitions, phones = data.transition_model, data.phones
        losses = frames.add(
            matrix,
            transitions.pdf_of[item.alignment].astype(np.int64),
            phones.phones_of(transitions, item.alignment),
            transitions.hmm_state_of[item.alignment].astype(np.int64),
        )
        utterances[item.utt] = Spoken(len(matrix), *losses, *_words_and_path(recogniser, result))
    tally.check(path=data.name)
    hypotheses = {utt: spoken.words for utt, spoken in utterances.items() if spoken.words is not None}
    reference = {utt: words for utt, words in data.data_dir.text.items() if utt in utterances}
    return Examined(
        label=label,
        model=model,
        records=read_records(path),
        **sample.describe(),
        frames=frames,
        utterances=utterances,
        scores=score(reference, hypotheses, "all") if recogniser else None,
    )


def _words_and_path(
    recogniser: Recogniser | None, result: Result | NoPathError | None
) -> tuple[list[str] | None, NDArray[np.int32] | None]:
    """The words of a decoded utterance, none without a path."""
    if recogniser is None or result is None:
        return None, None
    return ([], None) if isinstance(result, NoPathError) else (recogniser.words(result), result.transition_ids)


def with_log_posteriors(
    model: AcousticModel, utterances: Iterator[Labelled] | Sequence[Labelled]
) -> Iterator[tuple[Labelled, Tensor]]:
    """Each utterance with its log posteriors [T, num_pdfs]; several share each pass through the network."""
    group: list[Labelled] = []
    for item in utterances:
        group.append(item)
        if sum(len(waiting.base) for waiting in group) >= BLOCK_FRAMES:
            yield from zip(group, model.log_posteriors([waiting.base for waiting in group]), strict=True)
            group = []
    if group:
        yield from zip(group, model.log_posteriors([waiting.base for waiting in group]), strict=True)


class Sample:
    """Gathers the network inputs of sampled frames and looks at the hidden layers with them.

    Args:
        data: where the frames come from; the same frames for every model.
        model: whose inputs and layers.
        num_frames: how many.
    """

    def __init__(self, data: DataSet, model: AcousticModel, num_frames: int) -> None:
        self.data, self.model = data, model
        self.wanted = data.sample(num_frames)
        self.inputs: list[Tensor] = []
        self.alignment: list[NDArray[np.int32]] = []

    def take(self, item: Labelled) -> None:
        """Take the sampled frames of an utterance."""
        frames = self.wanted[item.utt]
        frames = frames[frames < len(item.base)]
        if len(frames):
            self.inputs.append(item.inputs(self.model, frames))
            self.alignment.append(item.alignment[frames])

    def describe(self) -> dict[str, Any]:
        """The fields of `Examined` that come from the sample."""
        classifier, frontend = self.model.classifier, self.model.frontend
        inputs, alignment = torch.cat(self.inputs), np.concatenate(self.alignment)
        names = self.data.phones.names
        phones = self.data.phones.phones_of(self.data.transition_model, alignment)
        targets = torch.as_tensor(self.data.transition_model.pdf_of[alignment].astype(np.int64), device=inputs.device)
        outputs = run_layers(classifier, inputs)
        layers = describe_layers(classifier, outputs)
        filters, shown = None, {}
        if layers:
            weight = classifier.hidden_affines[0].weight
            sampled_phones = [names[phone] for phone in phones]
            filters = describe_filters(frontend, weight, inputs, outputs.pre_activations[0], sampled_phones)
            shown = {layers[number].name: outputs.outputs[number] for number in sorted({0, len(layers) - 1})}
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(inputs))).to(inputs.device)
        return {
            "layers": layers,
            "gradients": describe_gradients(classifier, inputs[order], targets[order]),
            "filters": filters,
            "detectors": describe_detectors(shown, phones, names),
            "num_sampled": len(inputs),
        }
