"""Training by a sequence criterion: the loop of cross-entropy training over batches of whole utterances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from acoustic import log
from acoustic.data.batches import Store
from acoustic.decode.priors import log_priors
from acoustic.nn.classifier import SenoneClassifier
from acoustic.sequence.config import SequenceConfig
from acoustic.sequence.criteria import Objective
from acoustic.sequence.make_criterion import make_criterion
from acoustic.sequence.utterances import Utterance, UtteranceStore
from acoustic.train.hessian_free import Part
from acoustic.train.hessian_free_loop import HessianFreeTrainer
from acoustic.train.loop import Trainer
from acoustic.train.ranks import Ranks

logger = log.get_logger(__name__)
PART_UTTERANCES = 8  # that go through the network together in a Hessian-free update


class SequenceTrainer(Trainer):
    """One run. Its loss is the criterion's objective with the sign changed, per frame.

    Args:
        config: the whole configuration.
        classifier: the network, initialised.
        train_store: training frames.
        dev_store: dev frames.
        device: where to compute.
        dtype: of the network's computations.
        ranks: the processes that train together.

    Raises:
        DataError: lattices or alignments that cannot be read or used.
    """

    train_store: UtteranceStore
    dev_store: UtteranceStore

    def __init__(
        self,
        config: SequenceConfig,
        classifier: SenoneClassifier,
        train_store: Store,
        dev_store: Store,
        device: torch.device,
        dtype: torch.dtype,
        ranks: Ranks | None = None,
    ) -> None:
        self.criterion = make_criterion(config, train_store.cache, dev_store.cache, device)
        self.f_smoothing = config.f_smoothing
        self.left_out: Counter[str] = Counter()  # what the criterion left out in this interval
        self.log_priors = log_priors(train_store.cache.pdf_counts).to(device)
        stores = [
            UtteranceStore(store, self.criterion, what, config.data.max_skip_fraction)
            for store, what in ((train_store, "training"), (dev_store, "dev"))
        ]
        super().__init__(config, classifier, stores[0], stores[1], device, dtype, ranks)

    def training_loss(self, logits: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
        """As Trainer.training_loss; the loss is a sum over the frames of the update."""
        chosen = self.train_store.chosen(*self.batch_position(), self.ranks.rank, self.ranks.world_size)
        objective = self.counted("training", self.objective(logits, chosen))
        totals = torch.stack([self.loss_sum(objective), (logits.argmax(1) == targets).sum()])
        return self.smoothed(objective, logits, targets), totals

    def frames_of_update(self) -> int:
        """As Trainer.frames_of_update."""
        return len(self.train_store.batch_index(*self.batch_position()))

    def batch_position(self) -> tuple[int, int, int, int]:
        """What the utterances of the next update follow from: batch size, seed, epoch, number of the batch."""
        return self.batch_size, self.config.seed, *divmod(self.position.step, self.steps_per_epoch)

    def smoothed(self, objective: Objective, logits: Tensor, targets: Tensor) -> Tensor:
        """What is minimised, summed over frames: the objective's negative and a share of cross-entropy."""
        loss = -(1 - self.f_smoothing) * self.criterion.loss_scale * objective.value
        if self.f_smoothing > 0:
            loss = loss + self.f_smoothing * functional.cross_entropy(
                logits.float(), targets, reduction="sum", label_smoothing=self.config.optim.label_smoothing
            )
        return loss

    def dev_loss(self, number: int, logits: Tensor, targets: Tensor) -> Tensor:
        """As Trainer.dev_loss."""
        chosen = self.dev_store.chosen(
            self.config.data.eval_batch_size, None, 0, number, self.ranks.rank, self.ranks.world_size
        )
        return self.loss_sum(self.counted("dev", self.objective(logits, chosen)))

    def run_interval(self) -> None:
        """As Trainer.run_interval."""
        self.left_out.clear()
        super().run_interval()

    def end_interval(self, seconds: float, num_steps: int) -> None:
        """As Trainer.end_interval; tells what the criterion left out, as Kaldi's trainers warn of dropped frames."""
        super().end_interval(seconds, num_steps)
        for what, number in self.left_out.items():
            if number:
                logger.warning("%s: %d", what, number)

    def counted(self, what: str, objective: Objective) -> Objective:
        """The objective, after counting what the criterion left out of its utterances."""
        for name, number in objective.statistics.items():
            self.left_out[f"{what} {name.replace('_', ' ')}"] += round(number)
        return objective

    def objective(self, logits: Tensor, utterances: Sequence[Utterance]) -> Objective:
        """The criterion on some utterances, given their logits [num_frames, num_pdfs]."""
        if not utterances:  # a rank may get none of an epoch's last batch
            return Objective(0.0 * logits.sum(), 0, {})
        return self.criterion(logits.float() - self.log_priors, [utt.supervision for utt in utterances])

    def loss_sum(self, objective: Objective) -> Tensor:
        """The loss as it is reported, summed over frames."""
        return -(objective.value.detach().double() + self.criterion.offset * objective.num_frames)


class SequenceHessianFreeTrainer(HessianFreeTrainer, SequenceTrainer):
    """Sequence training by Hessian-free updates, as Kingsbury, Sainath and Soltau 2012 and Dahl et al. 2013 did."""

    def parts(self, inputs: Tensor, targets: Tensor) -> list[Part]:
        """The batch in groups of utterances, with their losses."""
        utterances = self.train_store.chosen(*self.batch_position())
        groups = [utterances[first : first + PART_UTTERANCES] for first in range(0, len(utterances), PART_UTTERANCES)]
        sizes = [sum(self.train_store.num_rows(utt) for utt in group) for group in groups]
        pieces = zip(groups, inputs.split(sizes), targets.split(sizes), strict=True)
        return [self.part(group, inputs, targets) for group, inputs, targets in pieces]

    def part(self, group: Sequence[Utterance], inputs: Tensor, targets: Tensor) -> Part:
        """Some utterances and their loss."""
        return Part(inputs, lambda logits: self.smoothed(self.objective(logits, group), logits, targets))
