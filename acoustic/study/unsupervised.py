"""Features learnt without labels: Zeiler et al. 2013, sections 3 and 5.2, Tables 2 and 3."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from acoustic.analysis.zeiler2013 import choose_detectors, evaluate_detector
from acoustic.data.batches import Store
from acoustic.kaldi.alignments import read_model
from acoustic.study.result import Result
from acoustic.train.config import TrainConfig
from acoustic.train.precision import choose_device
from acoustic.train.pretrain import propagate
from acoustic.train.pretrain_config import RBM_UNITS
from acoustic.train.run import make_trainer, prepare

NUM_DETECTOR_FRAMES = 8000  # that detectors are chosen on, of training data, and judged on, of dev
Layers = list[tuple[Tensor, Tensor]]  # weight [dim, in_dim] and bias [dim] of each


def measure_features(config: TrainConfig, epochs: int, learning_rate: float, result: Result) -> Result:
    """Train the hidden layers of `config` without labels and measure what their features are good for.

    Args:
        config: with `pretrain=sparse_autoencoder`.
        epochs: of the linear classifier over each number of layers.
        learning_rate: its first rate, halved after each epoch.
        result: what else is known; its features_accuracy and detector fields are filled in.
    """
    device = choose_device(config.runtime.device)
    trainer = make_trainer(config, prepare(config), device, torch.float32)
    affines = trainer.classifier.hidden_affines
    layers = [(affine.weight.detach(), affine.bias.detach()) for affine in affines]
    units = [RBM_UNITS[activation] for activation in config.model.layer_activations]
    train_store, dev_store = trainer.train_store, trainer.dev_store
    accuracies = [
        linear_accuracy(config, train_store, dev_store, units, layers[:depth], epochs, learning_rate)
        for depth in range(len(layers) + 1)
    ]
    precision, recall = detect_phones(config, train_store, dev_store, units, layers[:1])
    return replace(
        result, features_accuracy=accuracies, detector_precision=precision, detector_recall=recall,
        dev_accuracy=accuracies[-1],
    )  # fmt: skip


def linear_accuracy(
    config: TrainConfig,
    train_store: Store,
    dev_store: Store,
    units: list[str],
    layers: Layers,
    epochs: int,
    learning_rate: float,
) -> float:
    """Dev frame accuracy of a softmax regression over the features of some fixed layers (Table 3).

    Features are brought to unit variance first, so that one learning rate serves every depth.
    """
    inputs, _ = next(train_store.batches(4096, config.seed))
    features = propagate(inputs, units, layers)
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-3)

    def normalised(inputs: Tensor) -> Tensor:
        return (propagate(inputs, units, layers) - mean) / deviation

    linear = nn.Linear(len(mean), train_store.num_pdfs, device=train_store.device)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.SGD(linear.parameters(), lr=learning_rate, momentum=0.9)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = learning_rate * 0.5**epoch
        for inputs, targets in train_store.batches(config.data.batch_size, config.seed, epoch):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(linear(normalised(inputs)), targets).backward()
            optimizer.step()
    num_right = torch.zeros((), dtype=torch.int64, device=dev_store.device)
    with torch.inference_mode():
        for inputs, targets in dev_store.batches(config.data.eval_batch_size):
            num_right += (linear(normalised(inputs)).argmax(1) == targets).sum()
    return float(num_right) / dev_store.num_frames


def detect_phones(
    config: TrainConfig, train_store: Store, dev_store: Store, units: list[str], layers: Layers
) -> tuple[float, float]:
    """Precision and recall on dev of the best single unit for each phone (Table 2), medians over phones.

    Unit and threshold are chosen on training frames, by accuracy; phones whose detector never fires on dev have no
    precision and are left out.
    """
    phone_of_pdf = phones_of_pdfs(config.train.ali_dir[0], train_store.num_pdfs)
    values, phones = sampled_units(train_store, config.seed, units, layers, phone_of_pdf)
    dev_values, dev_phones = sampled_units(dev_store, config.seed, units, layers, phone_of_pdf)
    found = choose_detectors(values, phones, int(phone_of_pdf.max()) + 1)
    judged = [
        evaluate_detector(dev_values, dev_phones, phone, detector.unit, detector.threshold)
        for phone, detector in enumerate(found)
        if detector is not None and detector.recall > 0
    ]
    precisions = [detector.precision for detector in judged if not np.isnan(detector.precision)]
    recalls = [detector.recall for detector in judged if not np.isnan(detector.recall)]
    return (float(np.median(precisions)) if precisions else 0.0), (float(np.median(recalls)) if recalls else 0.0)


def phones_of_pdfs(ali_dir: str | Path, num_pdfs: int) -> NDArray[np.int64]:
    """[num_pdfs], the phone of each pdf; of a pdf that several phones share, the one with the largest id."""
    model = read_model(ali_dir)
    found = np.zeros(num_pdfs, dtype=np.int64)
    np.maximum.at(found, model.pdf_of[1:], model.phone_of[1:])
    return found


def sampled_units(
    store: Store, seed: int, units: list[str], layers: Layers, phone_of_pdf: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Outputs of the last of some layers [N, D] and phones [N], for frames drawn from a store."""
    inputs, targets = next(store.batches(min(NUM_DETECTOR_FRAMES, store.num_frames), seed))
    return propagate(inputs, units, layers).cpu().numpy(), phone_of_pdf[targets.cpu().numpy()]
