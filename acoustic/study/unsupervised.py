"""Features learnt without labels: Zeiler et al. 2013, sections 3 and 5.2, Tables 2 and 3."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from acoustic.analysis.phones import PhoneSet, find_symbols
from acoustic.analysis.zeiler2013 import choose_detectors, evaluate_detector
from acoustic.data.batches import Store
from acoustic.kaldi.alignments import read_model
from acoustic.study.result import Result
from acoustic.train.config import TrainConfig
from acoustic.train.optim import RATE_FRAMES
from acoustic.train.precision import choose_device
from acoustic.train.pretrain import propagate
from acoustic.train.pretrain_config import RBM_UNITS
from acoustic.train.run import make_trainer, prepare

NUM_DETECTOR_FRAMES = 8000  # that detectors are chosen on, of training data, and judged on, of dev
Layers = list[tuple[Tensor, Tensor]]  # weight [dim, in_dim] and bias [dim] of each


def measure_features(config: TrainConfig, epochs: int, learning_rate: float, graph_dir: Path, result: Result) -> Result:
    """Train the hidden layers of `config` without labels and measure what their features are good for.

    Args:
        config: with `pretrain=sparse_autoencoder`.
        epochs: of the linear classifier over each number of layers.
        learning_rate: its first rate, halved after each epoch.
        graph_dir: of the corpus; its phones.txt, if there, names the phones.
        result: what else is known; its features_accuracy and detectors are filled in.
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
    detectors = detect_phones(config, train_store, dev_store, units, layers[:1], graph_dir)
    return replace(result, features_accuracy=accuracies, detectors=detectors, dev_accuracy=accuracies[-1])


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
        for inputs, targets in train_store.batches(config.data.batch_size or RATE_FRAMES, config.seed, epoch):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(linear(normalised(inputs)), targets).backward()
            optimizer.step()
    num_right = torch.zeros((), dtype=torch.int64, device=dev_store.device)
    with torch.inference_mode():
        for inputs, targets in dev_store.batches(config.data.eval_batch_size):
            num_right += (linear(normalised(inputs)).argmax(1) == targets).sum()
    return float(num_right) / dev_store.num_frames


def detect_phones(
    config: TrainConfig, train_store: Store, dev_store: Store, units: list[str], layers: Layers, graph_dir: Path
) -> dict[str, list[float]]:
    """Phone -> precision, recall and accuracy on dev of the best single unit for it (Table 2).

    Unit and threshold are chosen on training frames, by accuracy; phones whose detector never fires on dev have no
    precision and are left out.
    """
    model = read_model(config.train.ali_dir[0])
    phone_set = PhoneSet.make(model, find_symbols(graph_dir, config.train.ali_dir[0]))
    phone_of_pdf = np.zeros(train_store.num_pdfs, dtype=np.int64)
    np.maximum.at(phone_of_pdf, model.pdf_of[1:], phone_set.group_of[model.phone_of[1:]])  # of several, the last
    values, phones = sampled_units(train_store, config.seed, units, layers, phone_of_pdf)
    dev_values, dev_phones = sampled_units(dev_store, config.seed, units, layers, phone_of_pdf)
    judged = {
        phone_set.names[phone]: evaluate_detector(dev_values, dev_phones, phone, detector.unit, detector.threshold)
        for phone, detector in enumerate(choose_detectors(values, phones, len(phone_set.names)))
        if detector is not None and detector.recall > 0
    }
    return {
        name: [detector.precision, detector.recall, detector.accuracy]
        for name, detector in judged.items()
        if not np.isnan([detector.precision, detector.recall]).any()
    }


def sampled_units(
    store: Store, seed: int, units: list[str], layers: Layers, phone_of_pdf: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Outputs of the last of some layers [N, D] and phones [N], for frames drawn from a store."""
    inputs, targets = next(store.batches(min(NUM_DETECTOR_FRAMES, store.num_frames), seed))
    return propagate(inputs, units, layers).cpu().numpy(), phone_of_pdf[targets.cpu().numpy()]
