"""The first layer's filters as pictures of time and frequency, the inputs they fit best, units as phone detectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acoustic.analysis import zeiler2013
from acoustic.analysis.zeiler2013 import Detector
from acoustic.features.frontend import Frontend

NUM_FILTERS = 32
NUM_PATCHES = 5


@dataclass(frozen=True)
class Filters:
    """Some units of the first layer.

    Attributes:
        units: int64 [F], which.
        tiles: float32 [F, S, base_dim], their weights by frame of the window and base feature; without deltas' part.
        patches: float32 [F, NUM_PATCHES, S, base_dim], the inputs that drive each most, best first.
        patch_phones: [F][NUM_PATCHES], the phone of the middle frame of each.
    """

    units: NDArray[np.int64]
    tiles: NDArray[np.float32]
    patches: NDArray[np.float32]
    patch_phones: list[list[str]]


@dataclass(frozen=True)
class DetectorRow:
    """The best detector of a phone in one layer, chosen on one half of the sample and tried on the other."""

    layer: str
    phone: str
    criterion: str
    detector: Detector


def tile_of(frontend: Frontend, weights: Tensor) -> Tensor:
    """Weights on network inputs [F, input_dim] as weights on base features of the window: [F, S, base_dim].

    With an LDA the weights are taken back through it; of deltas only the static part is kept.
    """
    if frontend.lda_weight is not None:
        scale = 1.0 if frontend.scale is None else frontend.scale
        weights = (weights * scale) @ frontend.lda_weight
    order = frontend.config.delta_order + 1
    return weights.view(len(weights), frontend.num_spliced, order, frontend.base_dim)[:, :, 0]


def patches_of(frontend: Frontend, inputs: Tensor) -> Tensor:
    """Network inputs [N, input_dim] as pictures [N, S, base_dim], normalised; an LDA is undone as far as it can be."""
    if frontend.lda_weight is not None:
        if frontend.scale is not None and frontend.shift is not None:
            inputs = inputs / frontend.scale - frontend.shift
        inputs = inputs @ torch.linalg.pinv(frontend.lda_weight).T
    order = frontend.config.delta_order + 1
    return inputs.view(len(inputs), frontend.num_spliced, order, frontend.base_dim)[:, :, 0]


def describe_filters(
    frontend: Frontend,
    weight: Tensor,
    inputs: Tensor,
    pre_activations: NDArray[np.float32],
    phones: list[str],
) -> Filters:
    """The filters with the longest weight vectors, the strongest first.

    Args:
        frontend: makes the network's inputs.
        weight: [D, input_dim] of the first layer.
        inputs: [N, input_dim], the sample.
        pre_activations: [N, D] of the first layer.
        phones: [N], names.
    """
    units = torch.argsort(weight.norm(dim=1), descending=True)[:NUM_FILTERS].cpu().numpy()
    best = zeiler2013.best_inputs(pre_activations, units, NUM_PATCHES)
    shape = (*best.shape, frontend.num_spliced, frontend.base_dim)
    patches = patches_of(frontend, inputs[torch.from_numpy(best.ravel())]).reshape(shape)
    return Filters(
        units=units,
        tiles=tile_of(frontend, weight[torch.from_numpy(units)].detach()).cpu().numpy(),
        patches=patches.cpu().numpy(),
        patch_phones=[[phones[frame] for frame in row] for row in best],
    )


def describe_detectors(
    layers: dict[str, NDArray[np.float32]], phones: NDArray[np.int64], names: list[str], seed: int = 0
) -> list[DetectorRow]:
    """The best single-unit detector of every phone, for each layer and criterion.

    Args:
        layers: name -> outputs [N, D].
        phones: int64 [N].
        names: of the phones.
        seed: of the division into halves.
    """
    shuffled = np.random.default_rng(seed).permutation(len(phones))
    choice, trial = shuffled[: len(phones) // 2], shuffled[len(phones) // 2 :]
    rows = []
    for layer, outputs in layers.items():
        for criterion in ("accuracy", "f1"):
            found = zeiler2013.choose_detectors(outputs[choice], phones[choice], len(names), criterion)
            for phone, detector in enumerate(found):
                if detector is not None:
                    tried = zeiler2013.evaluate_detector(
                        outputs[trial], phones[trial], phone, detector.unit, detector.threshold
                    )
                    rows.append(DetectorRow(layer, names[phone], criterion, tried))
    return rows
