"""What made an update bad: which of its frames, and a note for someone to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from acoustic.data.batches import Store
from acoustic.errors import TrainingError
from acoustic.nn.classifier import SenoneClassifier
from acoustic.train.guard import write_post_mortem


def examine(
    step: int,
    epoch: int,
    store: Store,
    index: Tensor,
    classifier: SenoneClassifier,
    frame_losses: Callable[[Tensor, Tensor], Tensor],
    exp_dir: Path,
    writes: bool,
) -> TrainingError:
    """Look for the frames that a number that is not finite came from, and keep the batch for a post-mortem.

    Args:
        step, epoch: of the update.
        store, index: its frames, int64 [B].
        classifier: with the weights from before the update.
        frame_losses: gives the loss of each frame, with the masks of the update.
        exp_dir: the batch goes into a folder below it,
        writes: if this is true.

    Returns:
        the error to raise, naming the update, the utterances and what to try.
    """
    (inputs, targets), utterances = store.batch(index), store.utterances(index)
    where, frames = find_culprits(inputs, targets, classifier, frame_losses)
    culprits = sorted({utterances[frame] for frame in frames})
    folder = exp_dir / "nonfinite" / f"step-{step:09d}"
    if writes:
        note = f"update {step} of epoch {epoch}: the {where} is not finite; frames {frames}, utterances {culprits}"
        write_post_mortem(folder, inputs, targets, utterances, note)
    more = f" and {len(culprits) - 3} more" if len(culprits) > 3 else ""
    return TrainingError(
        f"the {where} of update {step} is not finite (utterances {', '.join(culprits[:3])}{more}); "
        f"the weights were not moved. The batch is in {folder}. Try a lower optim.learning_rate, "
        "optim.clip_norm=1 or runtime.precision=fp32; acoustic doctor checks the features"
    )


@torch.no_grad()
def find_culprits(
    inputs: Tensor,
    targets: Tensor,
    classifier: SenoneClassifier,
    frame_losses: Callable[[Tensor, Tensor], Tensor],
) -> tuple[str, list[int]]:
    """Where numbers that are not finite come from (input, network, loss or gradient), and in which frames."""
    bad = ~inputs.isfinite().all(1)
    if bool(bad.any()):
        return "input", bad.nonzero().flatten().tolist()
    everywhere = list(range(len(inputs)))
    if not all(bool(parameter.isfinite().all()) for parameter in classifier.parameters()):
        return "network", everywhere
    bad = ~frame_losses(inputs, targets).isfinite()
    return ("loss", bad.nonzero().flatten().tolist()) if bool(bad.any()) else ("gradient", everywhere)
