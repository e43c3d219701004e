"""NaN and infinity put into features, loss, gradient and weights: caught in the same step, the weights bit-unchanged.

    python scripts/trials/nonfinite.py [--quick]

The utterances must be named (exactly the one at fault where the features are), a post-mortem written, and the run
resumed without the fault must equal one that never met it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import torch
from corpus import Corpus, make_corpus, train_config
from harness import Outcome, Settings, main, silence, without_curves

from acoustic.errors import TrainingError
from acoustic.train import loop
from acoustic.train.config import TrainConfig
from acoustic.train.loop import Trainer
from acoustic.train.run import make_trainer, prepare

VALUES = (math.nan, math.inf, -math.inf)
STEP = 7  # the update that meets the fault

Fault = Callable[[Trainer, float], None]


def run(settings: Settings) -> Outcome:
    silence()
    without_curves()
    corpus = make_corpus(settings.folder / "corpus")
    nets = itertools.product(("sgd",) if settings.quick else ("sgd", "adam", "adamw"), ("relu", "sigmoid"), (0.0, 0.3))
    problems, num_cases = [], 0
    for number, (optimizer, activation, dropout) in enumerate(nets):
        options = {"optim__name": optimizer, "model__activation": activation, "model__dropout": dropout}
        config = train_config(corpus, settings.folder / f"whole-{number}", schedule__max_epochs=2, **options)
        whole = trainer_of(config)
        whole.run()
        for (name, fault), value in itertools.product(FAULTS.items(), VALUES):
            exp_dir = settings.folder / f"{number}-{name}-{value}"
            problem = one_case(corpus, train_config(corpus, exp_dir, schedule__max_epochs=2, **options), fault, value)
            problem = problem or after_resuming(train_config(corpus, exp_dir, schedule__max_epochs=2, **options), whole)
            num_cases += 1
            if problem:
                problems.append(f"{value} in {name} ({optimizer}, {activation}, dropout {dropout}): {problem}")
    for problem in problems:
        print(problem)
    return Outcome(not problems, f"{num_cases - len(problems)} of {num_cases} faults caught in their step")


def trainer_of(config: TrainConfig) -> Trainer:
    """A trainer on the CPU, as `acoustic train` makes it."""
    return make_trainer(config, prepare(config), torch.device("cpu"), torch.float32)


def one_case(corpus: Corpus, config: TrainConfig, fault: Fault, value: float) -> str:
    """Train, with a fault put in right before update STEP; "" when it is met as it should be."""
    trainer = trainer_of(config)
    weights: list[torch.Tensor] = []
    update = trainer.update
    cross_entropy = loop.functional.cross_entropy

    def faulty(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        if trainer.position.step != STEP:
            return update(inputs, targets)
        fault(trainer, value)
        weights.extend(parameter.detach().clone() for parameter in trainer.classifier.parameters())
        if fault is put_into_features:  # the batch had been assembled before
            index = trainer.train_store.batch_index(config.data.batch_size, config.seed, 0, STEP)
            inputs, targets = trainer.train_store.batch(index)
        return update(inputs, targets)

    trainer.update = faulty  # type: ignore[method-assign]
    try:
        trainer.run()
    except TrainingError as error:
        message = str(error)
    else:
        return "not noticed"
    finally:
        loop.functional.cross_entropy = cross_entropy
    return judge(trainer, weights, message, fault)


def judge(trainer: Trainer, weights: list[torch.Tensor], message: str, fault: Fault) -> str:
    """What is wrong with how a fault was met; "" for nothing."""
    folder = Path(trainer.config.exp_dir) / "nonfinite" / f"step-{STEP:09d}"
    if trainer.position.step != STEP + 1 or f"update {STEP} " not in message:
        return f"caught at step {trainer.position.step}: {message}"
    # As integers, since NaN does not equal itself.
    pairs = zip(weights, trainer.classifier.parameters(), strict=True)
    if not all(torch.equal(before.view(torch.int32), after.detach().view(torch.int32)) for before, after in pairs):
        return "the weights moved"
    listed = (folder / "utterances.txt").read_text().split()
    batch = torch.load(folder / "batch.pt", weights_only=True)
    if len(listed) != len(batch["targets"]):
        return "the post-mortem does not name an utterance for each frame"
    if fault is put_into_features and f"(utterances {victim(trainer)})" not in message:
        return f"the utterance is not named: {message}"
    return "" if any(utt in message for utt in listed) else f"no utterance is named: {message}"


def after_resuming(config: TrainConfig, whole: Trainer) -> str:
    """Whether the run goes on as if nothing had been, the fault removed; "" if so."""
    trainer = trainer_of(config)
    trainer.run()
    pairs = zip(trainer.classifier.parameters(), whole.classifier.parameters(), strict=True)
    same = all(torch.equal(one, other) for one, other in pairs) and trainer.metrics.read() == whole.metrics.read()
    return "" if same else "the resumed run is not identical"


# -- the faults ---------------------------------------------------------------------------------------------------


def victim_frame(trainer: Trainer) -> int:
    """A frame of batch STEP that lies inside its utterance, so that no other utterance sees it."""
    config = trainer.config
    return int(trainer.train_store.batch_index(config.data.batch_size, config.seed, 0, STEP)[3])


def victim(trainer: Trainer) -> str:
    """The utterance of that frame."""
    return trainer.train_store.utterances(torch.tensor([victim_frame(trainer)]))[0]


def put_into_features(trainer: Trainer, value: float) -> None:
    """One value of one frame in memory."""
    trainer.train_store._pool.frames[victim_frame(trainer), 1] = value  # type: ignore[attr-defined]


def put_into_loss(trainer: Trainer, value: float) -> None:
    """The loss of this update."""
    original = loop.functional.cross_entropy

    def spoilt(*args: torch.Tensor, **keywords: str) -> torch.Tensor:
        loop.functional.cross_entropy = original
        return original(*args, **keywords) + value

    loop.functional.cross_entropy = spoilt


def put_into_gradient(trainer: Trainer, value: float) -> None:
    """One value of the gradient of the first layer."""
    parameter = next(iter(trainer.classifier.parameters()))

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        handle.remove()
        gradient = gradient.clone()
        gradient.view(-1)[5] = value
        return gradient

    handle = parameter.register_hook(spoil)


def put_into_first_bias(trainer: Trainer, value: float) -> None:
    """A bias under an activation, where a rectifier may hide it."""
    trainer.classifier.hidden_affines[0].bias.data[2] = value


def put_into_output_weight(trainer: Trainer, value: float) -> None:
    """A weight of the output layer."""
    trainer.classifier.output.weight.data[3, 4] = value


FAULTS: dict[str, Fault] = {
    "features": put_into_features,
    "loss": put_into_loss,
    "gradient": put_into_gradient,
    "first_bias": put_into_first_bias,
    "output_weight": put_into_output_weight,
}


if __name__ == "__main__":
    main(__doc__ or "", run)
