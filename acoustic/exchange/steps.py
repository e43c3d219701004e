"""What components of nnet1 and nnet3 do, in one vocabulary, for import.

x is the input of a step, y its output, both of one frame but for `Join`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from acoustic.exchange.stages import Array


@dataclass(frozen=True, eq=False)
class Join:
    """y = the frames at `frame_offsets` from the current one, joined; edge frames are repeated."""

    frame_offsets: Sequence[int]


@dataclass(frozen=True, eq=False)
class Linear:
    """y = weight x + bias; `trained` tells a layer of the network from a transform of its features."""

    weight: Array
    bias: Array
    trained: bool


@dataclass(frozen=True, eq=False)
class Scale:
    """y = scale x + bias by element."""

    scale: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class Rectifier:
    """y = alpha x where x > 0, else beta x, by element."""

    alpha: Array
    beta: Array


@dataclass(frozen=True)
class Squash:
    """y = sigmoid(x) or tanh(x), as `activation` says."""

    activation: str


@dataclass(frozen=True)
class Softmax:
    """y = the logarithm of softmax(x), or softmax(x) itself."""


Step: TypeAlias = Join | Linear | Scale | Rectifier | Squash | Softmax
