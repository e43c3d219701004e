"""How gradients flow, how alike units are: Hahn & Choi 2018, "Gradient acceleration in activation functions"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
NUM_MASKS = 20  # passes with different dropout masks (section 3.2)
NUM_MASKED_FRAMES = 128  # frames that each of them is given


def gradient_information(deltas: NDArray[np.float32], inputs: NDArray[np.float32]) -> float:
    """G_k of equation 5: the mean over samples n and weights ij of |dE_n / dW_ij|.

    The gradient of one sample is the outer product of `deltas` and `inputs`, so the mean of its absolute values is the
    product of theirs. The paper calls N "the number of nodes"; E_n is read as the error of sample n.

    Args:
        deltas: [N, out_dim], dE_n / dz_i, the error of each sample by its own net inputs of the layer.
        inputs: [N, in_dim], what the layer's weights were multiplied with.
    """
    return float(np.mean(np.abs(deltas).mean(axis=1, dtype=np.float64) * np.abs(inputs).mean(axis=1, dtype=np.float64)))


def net_variance(nets: NDArray[np.float32]) -> float:
    """Variance of each node's net input over dropout masks, averaged over nodes and frames (Table 3).

    Args:
        nets: [num_masks, num_frames, D], the same frames passed with different masks.
    """
    return float(nets.var(axis=0, dtype=np.float64).mean())


def node_correlations(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pearson's r of every pair of nodes over the inputs (Table 1): [N, D] -> the upper triangle, D (D - 1) / 2 values.

    Nodes that never change have no correlation and are left out.
    """
    centred = values - values.mean(axis=0, dtype=np.float64)
    lengths = np.sqrt((centred**2).sum(axis=0))
    moving = lengths > 1e-7 * np.sqrt(len(values))
    unit = (centred[:, moving] / lengths[moving]).astype(np.float32)
    rows, columns = np.triu_indices(unit.shape[1], 1)
    return np.clip((unit.T @ unit)[rows, columns].astype(np.float64), -1.0, 1.0)


def pairs_above(correlations: NDArray[np.float64]) -> dict[float, int]:
    """Threshold -> how many pairs have |r| above it."""
    strength = np.abs(correlations)
    return {threshold: int((strength > threshold).sum()) for threshold in THRESHOLDS}


def saturated_share(pre_activations: NDArray[np.float32], low: float, high: float) -> float:
    """The share of pre-activations outside (low, high), the interval in which the activation is not saturated."""
    return float(1 - ((pre_activations > low) & (pre_activations < high)).mean())
