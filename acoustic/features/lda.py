"""Linear discriminant analysis: the projection that keeps classes apart (transform/lda-estimate.cc).

With W the covariance within classes and B that between their means, the rows of the projection are the directions in
which B is largest, after W has been made the identity; they come in order of decreasing B.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acoustic.errors import DataError

SMOOTHING = 1e-3  # of the mean variance, added where W is singular, as Kaldi does


class LdaStats:
    """Sums that an LDA estimate needs, accumulated over batches of labelled frames."""

    def __init__(self, num_classes: int, dim: int) -> None:
        """Start with no frames of `dim` values in `num_classes` classes."""
        self.counts = torch.zeros(num_classes, dtype=torch.float64)
        self.sums = torch.zeros(num_classes, dim, dtype=torch.float64)
        self.squares = torch.zeros(dim, dim, dtype=torch.float64)

    def accumulate(self, frames: Tensor, labels: Tensor) -> None:
        """Add frames [B, dim] (such as `Frontend.spliced` gives) with their classes [B], on any device."""
        frames, labels = frames.double().cpu(), labels.long().cpu()
        self.counts += torch.bincount(labels, minlength=len(self.counts))
        self.sums.index_add_(0, labels, frames)
        self.squares.addmm_(frames.t(), frames)

    def covariances(self) -> tuple[Tensor, Tensor]:
        """Covariance within classes and between their means, float64 [dim, dim] each.

        Raises:
            DataError: no frames were accumulated.
        """
        total = self.counts.sum()
        if total == 0:
            raise DataError("LDA cannot be estimated from no frames")
        mean = self.sums.sum(0) / total
        class_means = self.sums / self.counts.clamp_min(1.0).unsqueeze(1)
        offset = (class_means - mean) * (self.counts / total).sqrt().unsqueeze(1)
        between = offset.t() @ offset
        return self.squares / total - torch.outer(mean, mean) - between, between

    def estimate(self, num_rows: int) -> Tensor:
        """The projection: float32 [num_rows, dim], for `Frontend.set_lda`.

        More rows than there are classes less one are allowed; the surplus ones tell no classes apart.

        Raises:
            DataError: no frames, more rows than dimensions, or frames without variance.
        """
        dim = len(self.squares)
        if num_rows > dim:
            raise DataError(f"LDA cannot give {num_rows} dimensions of {dim}", remedy=f"set lda_dim to at most {dim}")
        within, between = self.covariances()
        factor, failed = torch.linalg.cholesky_ex(within)
        if failed:
            smoothed = within + SMOOTHING * within.diagonal().mean() * torch.eye(dim, dtype=torch.float64)
            factor, failed = torch.linalg.cholesky_ex(smoothed)
        if failed:
            raise DataError("LDA cannot be estimated: the frames do not vary within their classes")
        whitened = torch.linalg.solve_triangular(factor, between, upper=False)
        whitened = torch.linalg.solve_triangular(factor, whitened.t(), upper=False)
        _, directions = torch.linalg.eigh(whitened)  # in order of increasing eigenvalue
        projection = torch.linalg.solve_triangular(factor.t(), directions.flip(1), upper=True)
        return projection.t()[:num_rows].float().contiguous()
