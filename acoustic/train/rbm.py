"""Restricted Boltzmann machines trained by one step of contrastive divergence (CD-1).

The update is that of Kaldi's rbm-train-cd1-frmshuff and Rbm::RbmUpdate (nnet/nnet-rbm.h): probabilities in the
statistics, samples only to make the reconstruction. Beside Kaldi's Gaussian and Bernoulli visible and Bernoulli hidden
units there are noisy rectified ones (Nair & Hinton 2010; Dahl, Sainath & Hinton 2013, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

# A reconstruction whose standard deviation is so many times that of the data is about to make the weights explode.
EXPLODING = 2.0


def sample_bernoulli(net: Tensor) -> Tensor:
    """1 with probability sigmoid(net), else 0: [...] -> [...]."""
    return (torch.rand_like(net) < torch.sigmoid(net)).to(net.dtype)


def sample_rectified(net: Tensor) -> Tensor:
    """max(0, net + eps), eps normal with mean 0 and variance sigmoid(net): [...] -> [...]."""
    return torch.relu(net + torch.sigmoid(net).sqrt() * torch.randn_like(net))


# What a unit's net input makes of it: its value without noise, and for hidden units a sample.
MEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda net: net,
    "bernoulli": torch.sigmoid,
    "rectified": torch.relu,
}
SAMPLES: dict[str, Callable[[Tensor], Tensor]] = {"bernoulli": sample_bernoulli, "rectified": sample_rectified}


@dataclass
class Statistics:
    """What CD-1 compares, for a minibatch of B frames.

    Attributes:
        visible, hidden: the data [B, V] and the hidden units they give [B, H].
        visible_again, hidden_again: the reconstruction and the hidden units that it gives.
    """

    visible: Tensor
    hidden: Tensor
    visible_again: Tensor
    hidden_again: Tensor


class Rbm:
    """An RBM with its momentum.

    Args:
        visible_kind: gaussian (variance 1), bernoulli or rectified.
        hidden_kind: bernoulli or rectified.
        weight: [H, V], as the affine map of a network's layer has it.
        visible_bias: [V].

    Attributes:
        hidden_bias: [H], zero at first.
        increments: the last change of weight, hidden bias and visible bias.
        rate_factor: scalar that lowers the learning rate for good each time the weights were about to explode.
    """

    def __init__(self, visible_kind: str, hidden_kind: str, weight: Tensor, visible_bias: Tensor) -> None:
        self.visible_kind, self.hidden_kind = visible_kind, hidden_kind
        self.weight, self.visible_bias = weight.clone(), visible_bias.clone()
        self.hidden_bias = weight.new_zeros(len(weight))
        self.increments = [torch.zeros_like(tensor) for tensor in self.parameters]
        self.rate_factor = weight.new_ones(())

    @property
    def parameters(self) -> list[Tensor]:
        """Weight, hidden bias, visible bias."""
        return [self.weight, self.hidden_bias, self.visible_bias]

    def statistics(self, visible: Tensor) -> Statistics:
        """Data [B, V] up, down and up again; draws from torch's default generator of the device."""
        net = linear(visible, self.weight, self.hidden_bias)
        sample = SAMPLES[self.hidden_kind](net)
        visible_again = MEANS[self.visible_kind](linear(sample, self.weight.t(), self.visible_bias))
        hidden_again = MEANS[self.hidden_kind](linear(visible_again, self.weight, self.hidden_bias))
        return Statistics(visible, MEANS[self.hidden_kind](net), visible_again, hidden_again)

    def update(self, statistics: Statistics, rate: float, momentum: float, l2: float) -> None:
        """Move along data minus reconstruction, averaged over the minibatch; `l2` draws the weights to zero.

        Where visible units have no bound, weights that make reconstructions wildly larger than the data are scaled
        down instead, without momentum, and the rate is lowered: Kaldi's protection against exploding weights.
        """
        batch = len(statistics.visible)
        gradients = [
            (statistics.hidden.t() @ statistics.visible - statistics.hidden_again.t() @ statistics.visible_again)
            / batch
            - l2 * self.weight,
            (statistics.hidden - statistics.hidden_again).mean(0),
            (statistics.visible - statistics.visible_again).mean(0),
        ]
        explodes, scale = self._explosion(statistics)
        for parameter, increment, gradient in zip(self.parameters, self.increments, gradients, strict=True):
            increment.mul_(momentum).add_(self.rate_factor * rate * gradient)
            increment.copy_(torch.where(explodes, 0.0, increment))
            parameter.mul_(scale).add_(increment)
        self.rate_factor = torch.where(explodes, 0.9 * self.rate_factor, self.rate_factor)

    def _explosion(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        """Whether the weights are about to explode, and what to scale them by (scalars on the device)."""
        data, again = statistics.visible.std(), statistics.visible_again.std()
        explodes = again > EXPLODING * data
        if self.visible_kind == "bernoulli":
            explodes = torch.zeros_like(explodes)
        return explodes, torch.where(explodes, data / again, 1.0)


def reconstruction_error(statistics: Statistics) -> Tensor:
    """Squared error of the reconstruction, summed over the visible units and averaged over frames (scalar)."""
    return (statistics.visible - statistics.visible_again).square().sum(1).mean()


def logit_of_mean(mean: Tensor) -> Tensor:
    """The visible bias under which Bernoulli units are on as often as in the data (Kaldi's VisibleBiasCmvnFilename)."""
    return torch.logit(mean, eps=1e-4)
