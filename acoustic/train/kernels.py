"""Triton kernels for what updates on a GPU do beside matrix products: cross-entropy, and SGD on bfloat16 copies.

With thousands of senones these passes over memory are a large part of an update, if they are made one after another:
in float32 every frame's logits are written and read a dozen times. A kernel reads them once, and writes their gradient
once. On every device kernels are tried on some numbers before they are used; where they cannot run, or find something
else than torch, a warning says so and torch computes.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from acoustic import log

logger = log.get_logger(__name__)
MAX_BLOCK = 4096  # logits of a row, or weights, that a program looks at together
NUM_WARPS = 8
RELATIVE, ABSOLUTE = 1e-3, 1e-5  # what kernels may differ by from torch on the numbers that they are tried on
NARROW = 2**-7  # relative, where the results are bfloat16


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy of some frames, and how many of them are right: their largest logit is the target's.

    Args:
        logits: [B, num_pdfs], float32 or bfloat16; computed with in float32.
        targets: pdf ids, int64 [B].
        smoothing: share of each target's probability that is spread over all pdf ids (Szegedy et al. 2016, section 7).

    Returns:
        The sum of losses [nats], float32 scalar, with a gradient; the number of right frames, a scalar.
    """
    if torch.compiler.is_compiling() or not are_usable(logits.device):
        logits = logits.float()  # argmax over bfloat16 takes a CPU five times as long
        loss_sum = functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
        return loss_sum, (logits.argmax(1) == targets).sum()
    losses, is_right = _CrossEntropy.apply(_whole_rows(logits), targets, logits.shape[1], smoothing)
    return losses.sum(), is_right.sum()


def sgd(
    weights: Tensor, momenta: Tensor | None, gradients: Tensor, copies: Tensor, group: dict[str, Any], found_inf: Tensor
) -> None:
    """torch.optim.SGD's update of weights by gradients in another type, and copies of the weights in that type.

    Args:
        weights: float32, contiguous, changed in place.
        momenta: their momentum, as large; None without momentum.
        gradients, copies: of any type, contiguous; they may be longer, and what is beyond is left alone.
        group: of torch.optim.SGD's parameters: learning rate, momentum, weight decay.
        found_inf: float32 scalar on the device; nothing changes where it is not 0.
    """
    num_weights = weights.numel()
    block = min(MAX_BLOCK, _power_of_2(num_weights))
    with torch.cuda.device_of(weights):
        _kernels().sgd_kernel[(-(-num_weights // block),)](
            weights, weights if momenta is None else momenta, gradients, copies, found_inf, num_weights,
            float(group["lr"]), float(group["momentum"]), float(group["weight_decay"]),
            HAS_MOMENTUM=momenta is not None, IS_NESTEROV=group["nesterov"], BLOCK=block, num_warps=NUM_WARPS,
        )  # fmt: skip


@functools.cache
def are_usable(device: torch.device) -> bool:
    """Whether kernels run on a device and find there what torch finds; the log says why, where they should but don't.

    Under Triton's interpreter (the environment's TRITON_INTERPRET=1) they run on any device, slowly.
    """
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return False
    try:
        with torch.inference_mode(False), torch.enable_grad():  # wherever it is asked
            _try_cross_entropy(device)
            _try_sgd(device)
    except torch.OutOfMemoryError:
        raise  # says nothing of the kernels
    except Exception as error:  # of the import, the compiler, the driver, the launch: nobody's list is complete
        reason = str(error).strip().partition("\n")[0]
        logger.warning("updates go without Triton's kernels, and slower (%s: %s)", type(error).__name__, reason)
        return False
    return True


class _CrossEntropy(torch.autograd.Function):
    """Losses and whether frames are right, float32 [B], of logits [B, num_columns], the first num_pdfs of which count.

    What `backward` gives has all columns; those that do not count are zero.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, num_pdfs: int, smoothing: float) -> tuple[Tensor, Tensor]:
        """Finds and keeps the log sums of exponentials, one a frame."""
        losses, log_sums, is_right = torch.empty(3, len(logits), device=logits.device)
        if len(logits) > 0:
            with torch.cuda.device_of(logits):
                _kernels().cross_entropy_kernel[(len(logits),)](
                    losses, log_sums, is_right, logits, targets, logits.stride(0), logits.shape[1], num_pdfs, smoothing,
                    IS_SMOOTHED=smoothing > 0, BLOCK=min(MAX_BLOCK, _power_of_2(num_pdfs)), num_warps=NUM_WARPS,
                )  # fmt: skip
        ctx.save_for_backward(logits, targets, log_sums)
        ctx.num_pdfs, ctx.smoothing = num_pdfs, smoothing
        ctx.mark_non_differentiable(is_right)
        return losses, is_right

    @staticmethod
    def backward(ctx: Any, *scales: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of losses times scales [B]."""
        logits, targets, log_sums = ctx.saved_tensors
        num_frames, num_columns = logits.shape
        gradients = torch.empty((num_frames, num_columns), dtype=logits.dtype, device=logits.device)
        if num_frames > 0:
            block = min(MAX_BLOCK, _power_of_2(num_columns))
            with torch.cuda.device_of(logits):
                _kernels().cross_entropy_gradient_kernel[(num_frames, -(-num_columns // block))](
                    gradients, logits, targets, log_sums, scales[0], logits.stride(0), scales[0].stride(0),
                    num_columns, ctx.num_pdfs, ctx.smoothing, BLOCK=block, num_warps=NUM_WARPS,
                )  # fmt: skip
        return gradients, None, None, None


def _whole_rows(logits: Tensor) -> Tensor:
    """The matrix that logits are the first columns of, where they are; they themselves, their rows as one, if not.

    The output layer may compute more columns than it gives (nn.classifier.OutputLayer). A gradient of all of them needs
    no copy with zeros appended.
    """
    whole = logits._base
    begins_rows = whole is not None and whole.is_contiguous() and whole.data_ptr() == logits.data_ptr()
    if whole is not None and begins_rows and whole.stride() == logits.stride() and len(whole) == len(logits):
        return whole
    return logits.contiguous()


def _kernels() -> Any:
    """The module of the kernels; importing it imports Triton, which not every machine has."""
    return importlib.import_module("acoustic.train.triton_kernels")


def _power_of_2(number: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << (number - 1).bit_length()


def _try_cross_entropy(device: torch.device) -> None:
    """Compare with torch's losses, right frames and gradients.

    Raises:
        ArithmeticError: they differ.
    """
    generator = torch.Generator().manual_seed(0)
    num_frames, num_pdfs, num_columns = 5, MAX_BLOCK + 70, MAX_BLOCK + 128
    targets = torch.randint(num_pdfs, (num_frames,), generator=generator)
    values = 3 * torch.randn(num_frames, num_columns, generator=generator)
    values[0, targets[0]] = 20.0
    for dtype, smoothing in ((torch.float32, 0.1), (torch.bfloat16, 0.0)):
        whole = values.to(device, dtype).requires_grad_()
        logits, labels = whole[:, :num_pdfs], targets.to(device)
        expected = functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)
        (slopes,) = torch.autograd.grad(expected.sum() / 3, whole)
        losses, is_right = _CrossEntropy.apply(_whole_rows(logits), labels, num_pdfs, smoothing)
        (found,) = torch.autograd.grad(losses.sum() / 3, whole)
        _compare("cross-entropy", losses, expected)
        _compare("right frames", is_right, (logits.argmax(1) == labels).float())
        _compare("gradient of logits", found, slopes)


def _try_sgd(device: torch.device) -> None:
    """Compare with torch's update, of momentum under way.

    Raises:
        ArithmeticError: weights, momentum or copies differ.
    """
    generator = torch.Generator().manual_seed(0)
    size = (MAX_BLOCK + 100,)
    weights, momentum, gradients = (torch.randn(size, generator=generator).to(device) for _ in range(3))
    narrow, copies, found_inf = (
        gradients.bfloat16(),
        torch.zeros_like(gradients).bfloat16(),
        torch.zeros((), device=device),
    )
    ours, our_momentum = weights.clone(), momentum.clone()
    group = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    sgd(ours, our_momentum, narrow, copies, group, found_inf)
    step = narrow.float() + 0.01 * weights
    momentum = 0.9 * momentum + step
    weights = weights - 0.1 * (step + 0.9 * momentum)
    _compare("momentum", our_momentum, momentum)
    _compare("weights", ours, weights)
    _compare("copies of weights", copies, weights.bfloat16())


def _compare(what: str, found: Tensor, expected: Tensor) -> None:
    """Raise ArithmeticError where two tensors differ by more than rounding."""
    relative = NARROW if found.dtype == torch.bfloat16 else RELATIVE
    if not torch.allclose(found.float(), expected.float(), relative, ABSOLUTE):
        raise ArithmeticError(f"{what} differ by up to {(found.float() - expected.float()).abs().max().item():.3g}")
