"""The report's sections on speech: overview, training, the recogniser's view, errors."""

from __future__ import annotations

import itertools

from acoustic.analysis.dataset import DataSet
from acoustic.analysis.examine import Examined
from acoustic.analysis.figures import frames
from acoustic.analysis.figures.curves import learning_curves
from acoustic.analysis.figures.hidden import labels_of
from acoustic.analysis.figures.panel import Panel
from acoustic.analysis.figures.utterances import utterance
from acoustic.analysis.html import Section, aligned, escape, model_name
from acoustic.analysis.pictures import pictures
from acoustic.analysis.recogniser import divergence
from acoustic.analysis.speakers import aligned_words, commonest_errors, speaker_wers
from acoustic.decode.wer_bootstrap import compare, confidence_interval

NUM_LISTED = 20  # utterances in the listing of errors
NUM_CONFUSIONS = 8


def overview(models: list[Examined], data: DataSet) -> Section:
    """What the models are and how well they do, in two tables."""
    section = Section("overview", "Overview")
    section.table(
        ["model", "hidden layers", "activation", "dropout", "parameters", "inputs", "senones"],
        [
            [model_name(number, model.label), _shape(model), _joined(model.model.classifier.config.layer_activations),
             _joined(model.model.classifier.config.rates), model.model.classifier.num_parameters,
             model.model.classifier.input_dim, model.model.num_pdfs]
            for number, model in enumerate(models)
        ],
    )  # fmt: skip
    header = ["model", "frame accuracy", "without silence", "phone accuracy", "cross-entropy", "WER", "95 % interval"]
    section.table(header, [_quality(number, model) for number, model in enumerate(models)])
    section.text(
        f"{data.name}: {len(models[0].utterances):,} utterances, {models[0].frames.num_frames:,} frames with labels of "
        f"{len(data.phones.names)} phones. Accuracies in per cent, cross-entropy in nats per frame."
    )
    return section


def _shape(model: Examined) -> str:
    widths = model.model.classifier.config.widths
    return f"{len(widths)} x {widths[0]}" if len(set(widths)) == 1 else _joined(widths)


def _joined(values: object) -> str:
    """A list on one line, said once where all are equal."""
    items = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]  # type: ignore[attr-defined]
    return items[0] if len(set(items)) == 1 else ", ".join(items)


def _quality(number: int, model: Examined) -> list[object]:
    row: list[object] = [
        model_name(number, model.label),
        f"{100 * model.frames.accuracy:.1f}",
        f"{100 * model.frames.accuracy_without_silence:.1f}",
        f"{100 * model.frames.phone_accuracy:.1f}",
        f"{model.frames.cross_entropy:.3f}",
    ]
    if model.scores is None:
        return [*row, "not decoded", "-"]
    interval = confidence_interval(model.scores)
    return [*row, f"{model.scores.wer:.2f}", f"{interval.low:.2f} - {interval.high:.2f}"]


def training(models: list[Examined]) -> tuple[Section, list[Panel]]:
    """Learning curves, where metrics.jsonl is there."""
    section = Section("training", "Training")
    panels = learning_curves([model.label for model in models], [model.records for model in models])
    section.figure(
        panels,
        "The course of training: dev solid, training dashed. Training is measured while the weights move, with dropout "
        "on, which is why it can lie above dev.",
    )
    return section, panels


def recogniser(models: list[Examined], data: DataSet) -> tuple[Section, list[Panel]]:
    """Phones, states, confusions, posteriors, speakers, silence."""
    section = Section("recogniser", "The recogniser's view")
    names = data.phones.names
    phones, states = frames.phones(models, names), frames.states(models, names)
    section.figure(
        phones, "How well each phone's frames are told, the most frequent phone on top (with its share of the frames)."
    )
    section.figure(
        states,
        "Frames with the right pdf in each HMM state, in per cent. Outer states touch other phones and are harder.",
    )
    confusions = frames.confusions(models, names)
    section.figure(
        confusions,
        "What the frames of each phone (row) are taken for; colour is the root of the share, so that rare confusions "
        "show. Posteriors of pdfs are summed over phones.",
    )
    section.table(
        ["model", "phone", "taken for", "frames", "share of the phone"],
        [
            [model_name(number, model.label), names[phone], names[other], count, f"{share:.1%}"]
            for number, model in enumerate(models)
            for phone, other, count, share in model.frames.top_confusions(NUM_CONFUSIONS)
        ],
        "The commonest confusions of phones.",
    )
    posteriors = [
        frames.calibration(models),
        frames.entropies(models, models[0].model.num_pdfs),
        frames.priors(models),
    ]
    section.figure(
        posteriors,
        "Calibration: is a network right as often as it claims to be? Below the diagonal it claims too much. Entropy: "
        "how spread out posteriors are, on frames it gets right (solid) and wrong (dotted). Priors: the mean posterior "
        "of every pdf on this data beside its prior, by which the decoder divides; far from the diagonal, the network "
        "sees other speech than it was trained on.",
    )
    section.table(
        ["model", "calibration error", "mean entropy [nats]", "KL(prior, mean posterior)", "silence: alignments",
         "most probable", "posterior mass"],
        [
            [model_name(number, model.label), model.frames.calibration.expected_error, model.frames.mean_entropy,
             divergence(model.prior, model.frames.mean_posterior),
             *(f"{share:.1%}" for share in model.frames.silence_shares.values())]
            for number, model in enumerate(models)
        ],
        "Posteriors in numbers, and how much of the data is silence.",
    )  # fmt: skip
    panels = [*phones, *states, *confusions, *posteriors]
    if all(model.scores is not None for model in models):
        rows = [speaker_wers(model.scores, data.data_dir.utt2spk) for model in models if model.scores is not None]
        speakers = frames.speakers(rows, labels_of(models))
        section.figure(
            [speakers],
            "Word error rate of each speaker; lines are 95 % bootstrap intervals over the speaker's utterances.",
        )
        panels.append(speakers)
    return section, panels


def errors(models: list[Examined], data: DataSet, num_worst: int) -> tuple[Section, list[Panel]]:
    """Aligned errors, and pictures of the worst utterances."""
    section = Section("errors", "Errors")
    decoded = [model for model in models if model.scores is not None]
    panels: list[Panel] = []
    if decoded:
        _add_significance(section, decoded)
        section.table(
            ["model", "spoken", "recognised", "times"],
            [
                [model_name(models.index(model), model.label), ref or "(nothing)", hyp or "(nothing)", count]
                for model in decoded
                for ref, hyp, count in commonest_errors(_all_pairs(model, data), NUM_CONFUSIONS)
            ],
            "The commonest word errors.",
        )
    else:
        section.text("Nothing was decoded (give --graph-dir): the worst utterances are those of highest cross-entropy.")
    for number, model in enumerate(models if num_worst else []):
        section.heading(f"Worst utterances of {model.label}")
        worst = model.worst(num_worst)
        if not worst:
            section.text("No utterance has an error.")
        for picture in pictures(model, data, worst) if worst else []:
            name = f"utterance-{number + 1}-{worst.index(picture.utt) + 1}"
            panel = utterance(name, picture, data.phones.names)
            section.parts.append(_utterance_head(model, data, picture.utt))
            section.parts.append(f'<div class="panels"><div class="panel wide">{panel.svg}</div></div>')
            panels.append(panel)
        listed = [utt for utt in model.worst(num_worst + NUM_LISTED) if utt not in worst] if model.scores else []
        if listed:
            entries = "".join(_utterance_head(model, data, utt) for utt in listed)
            section.parts.append(f"<details><summary>{len(listed)} more with errors</summary>{entries}</details>")
    section.text(
        "Above: spectrogram of the audio (features where there is no audio). Middle: posterior of each phone; frames "
        "mark where the alignment has it. Below: the phones of the alignment and of the decoder's best path. Words: "
        "spoken above, recognised below."
    )
    return section, panels


def _all_pairs(model: Examined, data: DataSet) -> list[tuple[str, str]]:
    """Aligned words of all utterances."""
    return [
        pair
        for utt, spoken in model.utterances.items()
        if utt in data.data_dir.text
        for pair in aligned_words(data.data_dir.text[utt], spoken.words or [])
    ]


def _utterance_head(model: Examined, data: DataSet, utt: str) -> str:
    """Name, numbers and aligned words of an utterance."""
    spoken = model.utterances[utt]
    numbers = f"accuracy {100 * spoken.accuracy:.1f} %, cross-entropy {spoken.cross_entropy:.2f}"
    line = f"{utt}: {spoken.num_frames} frames, {numbers}"
    words = aligned(aligned_words(data.data_dir.text.get(utt, []), spoken.words)) if spoken.words is not None else ""
    return f'<div class="utterance"><div class="name">{escape(line)}</div>{words}</div>'


def _add_significance(section: Section, models: list[Examined]) -> None:
    """A table of every two models under the paired bootstrap."""
    rows = []
    for one, other in itertools.combinations(models, 2):
        if one.scores is None or other.scores is None or one.scores.utts != other.scores.utts:
            continue
        found = compare(one.scores, other.scores)
        rows.append([one.label, other.label, f"{found.difference:+.2f}", f"{found.low:+.2f} to {found.high:+.2f}",
                     f"{100 * found.probability_of_improvement:.1f} %"])  # fmt: skip
    if rows:
        section.table(
            ["first", "second", "difference of WER", "95 % interval", "second is better in"],
            rows,
            "Every two models on the same draws of utterances (paired bootstrap, 1,000 draws).",
        )
