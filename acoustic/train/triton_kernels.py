"""Updates on a GPU as Triton kernels. Only acoustic/train/kernels.py imports this: it needs Triton.

A program (a block of threads on one multiprocessor) reads and writes a row or a block of its own, so none waits for
another; within a program every lane reads and writes places of its own, but for sums over all lanes. Sums are of a
fixed order: the same batch gives the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["smoothing"])
def cross_entropy_kernel(
    losses: tl.tensor,
    log_sums: tl.tensor,
    is_right: tl.tensor,
    logits: tl.tensor,
    targets: tl.tensor,
    row_stride: tl.tensor,
    num_columns: tl.tensor,
    num_pdfs: tl.tensor,
    smoothing: tl.tensor,
    IS_SMOOTHED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Losses, log sums of exponentials, and whether the first of the largest logits is the target's, float32 [B].

    Grid: [B]. A row is gone through twice; the second time it comes from the cache. Columns from num_pdfs on do not
    count, but are read: rows that end at any number of values cannot be read by several values at once.
    """
    row, lanes = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    logits += row * row_stride
    largest = tl.full([BLOCK], float("-inf"), tl.float32)
    places = tl.zeros([BLOCK], tl.int32)
    for begin in range(0, num_pdfs, BLOCK):
        pdfs = begin + lanes
        values = tl.load(logits + pdfs, mask=pdfs < num_columns, other=0.0).to(tl.float32)
        values = tl.where(pdfs < num_pdfs, values, float("-inf"))
        places = tl.where(values > largest, pdfs, places)
        largest = tl.where(values > largest, values, largest)
    peak = tl.max(largest, axis=0)
    best = tl.min(tl.where(largest == peak, places, num_pdfs), axis=0)
    sums = tl.zeros([BLOCK], tl.float32)
    totals = tl.zeros([BLOCK], tl.float32)
    for begin in range(0, num_pdfs, BLOCK):
        pdfs = begin + lanes
        values = tl.load(logits + pdfs, mask=pdfs < num_columns, other=0.0).to(tl.float32)
        values = tl.where(pdfs < num_pdfs, values, float("-inf"))
        sums += tl.exp(values - peak)
        if IS_SMOOTHED:
            totals += tl.where(pdfs < num_pdfs, values, 0.0)
    log_sum = peak + tl.log(tl.sum(sums, axis=0))
    target = tl.load(targets + row)
    loss = log_sum - tl.load(logits + target).to(tl.float32)
    if IS_SMOOTHED:
        loss = (1 - smoothing) * loss + smoothing * (log_sum - tl.sum(totals, axis=0) / num_pdfs)
    tl.store(losses + row, loss)
    tl.store(log_sums + row, log_sum)
    tl.store(is_right + row, (best == target).to(tl.float32))


@triton.jit(do_not_specialize=["smoothing"])
def cross_entropy_gradient_kernel(
    gradients: tl.tensor,
    logits: tl.tensor,
    targets: tl.tensor,
    log_sums: tl.tensor,
    scales: tl.tensor,
    row_stride: tl.tensor,
    scale_stride: tl.tensor,
    num_columns: tl.tensor,
    num_pdfs: tl.tensor,
    smoothing: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """The gradient of losses times `scales` by logits, [B, num_columns]; zero from column num_pdfs on.

    Grid: [B, number of blocks in a row].
    """
    row, columns = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_pdf = columns < num_pdfs
    values = tl.load(logits + row * row_stride + columns, mask=columns < num_columns, other=0.0).to(tl.float32)
    wanted = tl.where(columns == tl.load(targets + row), 1 - smoothing, 0.0) + smoothing / num_pdfs
    found = tl.exp(values - tl.load(log_sums + row)) - wanted
    gradient = tl.where(is_pdf, tl.load(scales + row * scale_stride) * found, 0.0)
    places = gradients + row * num_columns + columns
    tl.store(places, gradient.to(gradients.dtype.element_ty), mask=columns < num_columns)


@triton.jit(do_not_specialize=["learning_rate", "momentum", "weight_decay"])
def sgd_kernel(
    weights: tl.tensor,
    momenta: tl.tensor,
    gradients: tl.tensor,
    copies: tl.tensor,
    found_inf: tl.tensor,
    num_weights: tl.tensor,
    learning_rate: tl.tensor,
    momentum: tl.tensor,
    weight_decay: tl.tensor,
    HAS_MOMENTUM: tl.constexpr,
    IS_NESTEROV: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """torch.optim.SGD's update of weights and momentum, and copies of the weights; nothing where found_inf is not 0.

    Grid: [number of blocks].
    """
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    may_change = places < tl.where(tl.load(found_inf) == 0, num_weights, 0)
    weight = tl.load(weights + places, mask=may_change, other=0.0)
    step = tl.load(gradients + places, mask=may_change, other=0.0).to(tl.float32) + weight_decay * weight
    if HAS_MOMENTUM:
        velocity = momentum * tl.load(momenta + places, mask=may_change, other=0.0) + step
        tl.store(momenta + places, velocity, mask=may_change)
        step = step + momentum * velocity if IS_NESTEROV else velocity
    weight -= learning_rate * step
    tl.store(weights + places, weight, mask=may_change)
    tl.store(copies + places, weight.to(copies.dtype.element_ty), mask=may_change)
