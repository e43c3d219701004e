"""How sparse and how evenly used hidden units are: Maas, Hannun & Ng 2013, section 3, and Maas et al. 2014.

All start from `active`, which says of every input and unit whether the unit is not saturated (nn.saturation).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# What the papers report: last hidden layer of nets with four, Switchboard, 10,000 held-out inputs.
REPORTED_SPARSITY = {"ReLU": 0.11, "leaky ReLU": 0.11, "tanh": 0.70}
REPORTED_DISPERSION = {"ReLU": 0.04, "leaky ReLU": 0.04, "tanh": 0.14}


def activation_probability(active: NDArray[np.bool_]) -> NDArray[np.float64]:
    """p_i, the share of inputs for which unit i is active: bool [N, D] -> [D]."""
    return active.mean(axis=0, dtype=np.float64)


def lifetime_sparsity(probability: NDArray[np.float64]) -> float:
    """The mean of p_i over the units (Willmore & Tolhurst 2001); the smaller, the sparser."""
    return float(probability.mean())


def dispersion(probability: NDArray[np.float64]) -> float:
    """The standard deviation of p_i over the units; 0 means that all work equally often."""
    return float(probability.std())


def code_lengths(active: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many units are active for each input: bool [N, D] -> [N]; on average the code length (Maas et al. 2014)."""
    return active.sum(axis=1)


def never_active(probability: NDArray[np.float64]) -> float:
    """The share of units that no input activates."""
    return float((probability == 0).mean())
