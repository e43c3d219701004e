"""The sparse autoencoder of Zeiler et al. 2013, section 3: one layer of rectified features and its reconstruction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class SparseAutoencoder(nn.Module):
    """Features h = max(0, W x + b), reconstruction W_r h + b_r, rectified unless the input is the network's own.

    The columns of W_r are V_j / ||V_j||, and V is what is learnt: otherwise the L1 penalty would shrink h by letting
    W go to zero and W_r grow without end.

    Args:
        input_dim: values of x.
        dim: features.
        linear_output: the reconstruction is not rectified, for an x that is negative too.
    """

    def __init__(self, input_dim: int, dim: int, linear_output: bool) -> None:
        super().__init__()
        self.linear_output = linear_output
        self.encoder = nn.Linear(input_dim, dim)
        self.direction = nn.Parameter(torch.empty(input_dim, dim))  # V
        self.output_bias = nn.Parameter(torch.zeros(input_dim))
        nn.init.normal_(self.direction, std=1 / math.sqrt(input_dim))
        nn.init.zeros_(self.encoder.bias)
        with torch.no_grad():  # features first look for what they reconstruct
            self.encoder.weight.copy_(self.decoder_weight.t())

    @property
    def decoder_weight(self) -> Tensor:
        """W_r [input_dim, dim], its columns of length 1."""
        return self.direction / self.direction.norm(dim=0, keepdim=True)

    def features(self, x: Tensor) -> Tensor:
        """[B, input_dim] -> [B, dim]."""
        return torch.relu(self.encoder(x))

    def reconstruct(self, features: Tensor) -> Tensor:
        """[B, dim] -> [B, input_dim]."""
        net = linear(features, self.decoder_weight, self.output_bias)
        return net if self.linear_output else torch.relu(net)

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """||r - x||_2^2 and ||h||_1 of x [B, input_dim], averaged over frames (scalars)."""
        features = self.features(x)
        error = (self.reconstruct(features) - x).square().sum(1).mean()
        return error, features.abs().sum(1).mean()
