"""Forward-backward as Triton kernels. Only acoustic/sequence/triton_recursion.py imports this: it needs Triton.

One program (a block of threads on one multiprocessor) goes through all frames of one utterance, so that a batch's
forward recursions are one launch, and its backward recursions another; posteriors of pdf_ids are a third, of a program
a frame. Nothing is launched per frame.

Why the order of memory accesses is right:

- A program reads and writes states of its own utterance alone; what programs share (emissions, the graph) is never
  written. So no program waits for another.
- Within a program, what one thread wrote to global memory another reads only past a `tl.debug_barrier()`, the block's
  `bar.sync`, after which the accesses of all the block's threads before it have been performed for all of these (PTX
  ISA, "Parallel Synchronization and Communication Instructions: bar").
- Where a value is replaced in place, the lane that replaces it is the one that read it; blocks have as many lanes as
  threads or more (launched so by triton_recursion.py), so that no lane is another's copy.
- Loads may not be moved over barriers; kernels are launched with num_stages=1, which leaves software pipelining out.

Sums are of a fixed order and without atomic additions: the same batch gives the same bits.

Arrays: alphas [B, T + 1, K, num_states], where K is 2 with accuracies, else 1; scales and means [B, T + 1]; emissions,
accuracies, posteriors [T, B, num_pdfs]; lengths int32 [B]. Alphas of a frame are stored before they are divided by
their sum, the frame's scale, and before the mean accuracy is taken out of their second row, so that a frame is gone
through once. `rows` to `weights` are a SlicedRows.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _row_sums(
    values: tl.tensor,
    columns: tl.tensor,
    weights: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
) -> tl.tensor:
    """The rows of a slice of a matrix times a vector, [BLOCK // LANES]."""
    lanes = tl.arange(0, BLOCK)
    sums = tl.zeros([BLOCK], dtype=weights.dtype.element_ty)
    for step in range(first, last):
        column = tl.load(columns + step * BLOCK + lanes)
        weight = tl.load(weights + step * BLOCK + lanes)
        sums += weight * tl.load(values + column, mask=column >= 0, other=0.0)
    return tl.sum(tl.reshape(sums, [BLOCK // LANES, LANES]), axis=1)


@triton.jit
def _bounded(values: tl.tensor, BOUND: tl.constexpr) -> tl.tensor:
    """Values between -BOUND and BOUND; what is no number stays none."""
    return tl.where(values > BOUND, BOUND, tl.where(values < -BOUND, -BOUND, values))


@triton.jit
def _inverse(scale: tl.tensor) -> tl.tensor:
    """One over a scale; one where all has died out."""
    return 1.0 / tl.where(scale > 0, scale, 1.0)


@triton.jit(do_not_specialize=["num_frames"])
def forward_kernel(
    alphas: tl.tensor,
    scales: tl.tensor,
    means: tl.tensor,
    emissions: tl.tensor,
    accuracies: tl.tensor,
    lengths: tl.tensor,
    pdf_of: tl.tensor,
    leaks: tl.tensor,
    rows: tl.tensor,
    first_step: tl.tensor,
    columns: tl.tensor,
    weights: tl.tensor,
    num_frames: tl.tensor,
    num_states: tl.tensor,
    num_pdfs: tl.tensor,
    num_slices: tl.tensor,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """Fill alphas, scales and means beyond frame 0. Grid: [B]. The matrix is of transitions, a row for each target.

    `leaks` [num_states] is what flows into each state if one leaks.
    """
    utt, num_utts = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    places = tl.arange(0, BLOCK // LANES)
    before = alphas + utt * (num_frames + 1) * K * num_states
    scale = tl.load(scales + utt * (num_frames + 1))
    mean = scale * 0
    for frame in range(tl.load(lengths + utt)):
        after, emitted = before + K * num_states, (frame * num_utts + utt) * num_pdfs
        inverse = _inverse(scale)
        sums = tl.zeros([BLOCK // LANES], dtype=alphas.dtype.element_ty)
        gains = tl.zeros([BLOCK // LANES], dtype=alphas.dtype.element_ty)
        for part in range(num_slices):
            first, last = tl.load(first_step + part), tl.load(first_step + part + 1)
            state = tl.load(rows + part * (BLOCK // LANES) + places)
            is_state = state >= 0
            pdf = tl.load(pdf_of + state, mask=is_state, other=0)
            emission = tl.load(emissions + emitted + pdf, mask=is_state, other=0.0) * inverse
            leak = tl.load(leaks + state, mask=is_state, other=0.0)
            moved = _row_sums(before, columns, weights, first, last, BLOCK, LANES)
            alpha = emission * (moved + leak * scale)
            tl.store(after + state, alpha, mask=is_state)
            sums += alpha
            if K == 2:
                # Nothing leaks here: without the mean the row sums to zero.
                gained_moved = _row_sums(before + num_states, columns, weights, first, last, BLOCK, LANES)
                accuracy = tl.load(accuracies + emitted + pdf, mask=is_state, other=0.0)
                gained = emission * (gained_moved - mean * moved) + accuracy * alpha
                tl.store(after + num_states + state, gained, mask=is_state)
                gains += gained
        scale = tl.sum(sums)
        tl.store(scales + utt * (num_frames + 1) + frame + 1, scale)
        if K == 2:
            mean = tl.sum(gains) * _inverse(scale)
            tl.store(means + utt * (num_frames + 1) + frame + 1, mean)
        before = after
        tl.debug_barrier()  # the next frame reads all states of this


@triton.jit(do_not_specialize=["num_frames"])
def backward_kernel(
    alphas: tl.tensor,
    scales: tl.tensor,
    betas: tl.tensor,
    ahead: tl.tensor,
    emissions: tl.tensor,
    accuracies: tl.tensor,
    lengths: tl.tensor,
    pdf_of: tl.tensor,
    leaks: tl.tensor,
    rows: tl.tensor,
    first_step: tl.tensor,
    columns: tl.tensor,
    weights: tl.tensor,
    num_frames: tl.tensor,
    num_states: tl.tensor,
    num_pdfs: tl.tensor,
    num_slices: tl.tensor,
    BOUND: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """Replace alphas beyond frame 0 by occupancies, and scales by their sums. Grid: [B].

    The matrix is of transitions, a row for each source; `leaks` [num_states] are the probabilities of jumping to each
    state. `betas` [B, K, num_states] holds the last frame's at first; `ahead`, as large, what goes backward from each
    state over the transitions that enter it. With accuracies the second row of alphas becomes the occupancies times the
    accuracies expected of paths there, but for what all paths of the frame share.
    """
    utt, num_utts = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    lanes, places = tl.arange(0, BLOCK), tl.arange(0, BLOCK // LANES)
    betas += utt * K * num_states
    ahead += utt * K * num_states
    length = tl.load(lengths + utt)
    leak = tl.load(scales + utt * (num_frames + 1)) * 0  # what all states get of what their leaks lead to
    gained_leak, mean = leak, leak
    for back in range(length):
        frame = length - 1 - back
        emitted = (frame * num_utts + utt) * num_pdfs
        alpha_row = alphas + (utt * (num_frames + 1) + frame + 1) * K * num_states
        inverse = _inverse(tl.load(scales + utt * (num_frames + 1) + frame + 1))
        sums = tl.zeros([BLOCK], dtype=alphas.dtype.element_ty)
        gains = tl.zeros([BLOCK], dtype=alphas.dtype.element_ty)
        for begin in range(0, num_states, BLOCK):
            state = begin + lanes
            is_state = state < num_states
            pdf = tl.load(pdf_of + state, mask=is_state, other=0)
            emission = tl.load(emissions + emitted + pdf, mask=is_state, other=0.0) * inverse
            alpha = tl.load(alpha_row + state, mask=is_state, other=0.0) * inverse
            beta = tl.load(betas + state, mask=is_state, other=0.0) + leak
            tl.store(alpha_row + state, alpha * beta, mask=is_state)
            sums += alpha * beta
            tl.store(ahead + state, _bounded(emission * beta, BOUND), mask=is_state)
            if K == 2:
                gained_alpha = tl.load(alpha_row + num_states + state, mask=is_state, other=0.0) * inverse
                gained_beta = tl.load(betas + num_states + state, mask=is_state, other=0.0) + gained_leak
                gained_beta -= mean * beta
                gains += alpha * gained_beta
                tl.store(alpha_row + num_states + state, gained_alpha * beta + alpha * gained_beta, mask=is_state)
                accuracy = tl.load(accuracies + emitted + pdf, mask=is_state, other=0.0)
                gained = emission * (gained_beta + accuracy * beta)
                tl.store(ahead + num_states + state, _bounded(gained, BOUND), mask=is_state)
        tl.debug_barrier()  # below, what is ahead is read of any state; and the scale has been read by all threads
        total = tl.sum(sums)
        tl.store(scales + utt * (num_frames + 1) + frame + 1, total)
        if K == 2:
            mean = tl.sum(gains) * _inverse(total)
        leaking = tl.zeros([BLOCK // LANES], dtype=alphas.dtype.element_ty)
        gained_leaking = tl.zeros([BLOCK // LANES], dtype=alphas.dtype.element_ty)
        for part in range(num_slices):
            first, last = tl.load(first_step + part), tl.load(first_step + part + 1)
            state = tl.load(rows + part * (BLOCK // LANES) + places)
            is_state = state >= 0
            jump = tl.load(leaks + state, mask=is_state, other=0.0)
            moved = _row_sums(ahead, columns, weights, first, last, BLOCK, LANES)
            tl.store(betas + state, moved, mask=is_state)
            leaking += jump * moved
            if K == 2:
                moved = _row_sums(ahead + num_states, columns, weights, first, last, BLOCK, LANES)
                tl.store(betas + num_states + state, moved, mask=is_state)
                gained_leaking += jump * moved
        leak, gained_leak = tl.sum(leaking), tl.sum(gained_leaking)
        tl.debug_barrier()  # the next frame reads all that has moved, and overwrites what was ahead


@triton.jit(do_not_specialize=["num_frames"])
def pdf_kernel(
    posteriors: tl.tensor,
    occupancies: tl.tensor,
    sums: tl.tensor,
    lengths: tl.tensor,
    rows: tl.tensor,
    first_step: tl.tensor,
    columns: tl.tensor,
    weights: tl.tensor,
    num_frames: tl.tensor,
    num_states: tl.tensor,
    num_pdfs: tl.tensor,
    num_slices: tl.tensor,
    ROW: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """Sum up a row of what `backward_kernel` leaves by pdf_id, over its sums. Grid: [T, B].

    The matrix is of emissions, a row for each pdf_id. Frames beyond an utterance's end are left as they are.
    """
    frame, utt = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    if frame < tl.load(lengths + utt):
        places = tl.arange(0, BLOCK // LANES)
        row = utt * (num_frames + 1) + frame + 1
        inverse = _inverse(tl.load(sums + row))
        posteriors += (frame * tl.num_programs(1) + utt) * num_pdfs
        for part in range(num_slices):
            first, last = tl.load(first_step + part), tl.load(first_step + part + 1)
            pdf = tl.load(rows + part * (BLOCK // LANES) + places)
            summed = _row_sums(occupancies + (row * K + ROW) * num_states, columns, weights, first, last, BLOCK, LANES)
            tl.store(posteriors + pdf, summed * inverse, mask=pdf >= 0)
