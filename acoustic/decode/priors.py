"""Senone priors from the pdf counts of the training alignments."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from acoustic.errors import ConfigError

PRIOR_FLOOR = 1e-10
# A pdf rarer than the floor gets this log prior, so that its loglike is hugely negative and no path takes it: what
# Kaldi's PdfPrior does. Kaldi's value, sqrt of the largest float32.
DISABLED = math.sqrt(torch.finfo(torch.float32).max)


def log_priors(pdf_counts: Tensor, floor: float = PRIOR_FLOOR) -> Tensor:
    """log p(pdf) as Kaldi's PdfPrior computes it (src/nnet/nnet-pdf-prior.cc).

    Args:
        pdf_counts: [num_pdfs], frames of each pdf in the training alignments.
        floor: relative frequency below which a pdf is disabled.

    Returns:
        float32 [num_pdfs], natural logarithm; about 1.8e19 for a disabled pdf.

    Raises:
        ConfigError: a negative count, or all counts zero.
    """
    counts = pdf_counts.double()
    if bool((counts < 0).any()) or float(counts.sum()) <= 0:
        raise ConfigError("pdf counts must not be negative nor all zero")
    relative = counts / counts.sum()
    return torch.where(relative < floor, DISABLED, (relative + 1e-20).log()).float()
