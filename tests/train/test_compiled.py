"""Compiled updates: the same run to rounding, resumed bit for bit; what cannot be compiled goes on without them."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from acoustic.errors import ConfigError
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.train import compiled as compiled_module
from acoustic.train.compiled import Compute, Trial, UpdateLoss
from acoustic.train.draws import seed_draws
from acoustic.train.precision import set_up_torch
from acoustic.train.ranks import Ranks
from tests.train.runs import metrics, same_weights, small_config, train_broken_off, train_small

needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


class Net:
    """A network with everything that a pass changes or draws from, and its loss."""

    def __init__(self, device: str = "cpu") -> None:
        torch.manual_seed(1)
        config = ClassifierConfig(hidden_layers=2, hidden_dim=24, dropout=0.3, norm="batch")
        self.classifier = SenoneClassifier(config, 20, 10).to(device)
        self.trial = Trial(
            self.classifier, list(self.classifier.parameters()), torch.randn(32, 20, device=device),
            torch.randint(10, (32,), device=device), 32,
        )  # fmt: skip
        self.num_calls = 0

    def loss(self, inputs: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
        """As Trainer.batch_loss."""
        logits = self.classifier(inputs)
        loss_sum = functional.cross_entropy(logits, targets, reduction="sum")
        return loss_sum / divisor, torch.stack([loss_sum.detach(), (logits.argmax(1) == targets).sum()])

    def counted(self, inputs: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
        """The same; stands for compiled code."""
        self.num_calls += 1
        return self.loss(inputs, targets, divisor)

    def objective(self, setting: str, device: str = "cuda") -> UpdateLoss:
        """To be chosen as on a GPU, though it computes here."""
        return UpdateLoss(self.loss, setting, torch.device(device), Ranks())


def broken(inputs: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
    """What a machine without a compiler has."""
    raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand more")


def doubled(compute: Compute) -> Compute:
    """Code that was compiled wrongly."""
    return lambda inputs, targets, divisor: compute(inputs, targets, divisor // 2)


@pytest.fixture
def compiles_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[Compute], None]:
    """Sets what compiling gives."""
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)  # imports the compiler, for seconds
    return lambda result: monkeypatch.setattr(compiled_module, "compiled", lambda compute, device: result)


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the seconds of a pass as it is, and compiled."""

    def set_times(plain: float, compiled: float) -> None:
        times = {1: [plain], 2: [compiled, plain]}
        monkeypatch.setattr(Trial, "seconds", lambda trial, *ways: times[len(ways)])

    return set_times


@pytest.mark.parametrize(("plain", "fast", "chosen"), [(1.0, 0.5, True), (1.0, 0.99, False), (1e-3, 1e-4, False)])
def test_auto_compiles_where_that_is_faster_and_the_run_long_enough(compiles_to, takes, caplog, plain, fast, chosen):
    net = Net()
    compiles_to(net.counted)
    takes(plain, fast)
    objective = net.objective("auto")
    with caplog.at_level(logging.INFO):
        objective.choose(lambda: net.trial, num_steps=1000)
    assert objective.choice is chosen
    assert (objective.compiled is not None) is chosen
    (told,) = [record.getMessage() for record in caplog.records]
    assert ("1000.00 ms" in told and f"{1e3 * fast:.2f} ms" in told) if plain == 1.0 else "1 s at most" in told


@pytest.mark.parametrize("choice", [True, False])
def test_a_resumed_run_computes_as_it_began_whatever_is_faster_now(compiles_to, takes, choice):
    net = Net()
    compiles_to(net.counted)
    takes(1.0, 2.0 if choice else 0.5)
    objective = net.objective("auto")
    objective.choice = choice
    objective.choose(lambda: net.trial, num_steps=1000)
    assert objective.choice is choice
    assert (objective.compiled is not None) is choice


@pytest.mark.parametrize(("setting", "device"), [("auto", "cpu"), ("false", "cuda")])
def test_nothing_is_tried_where_nothing_is_to_be_gained(setting, device):
    def trial() -> Trial:
        raise AssertionError("no trial is needed")

    objective = Net().objective(setting, device)
    objective.choose(trial, num_steps=1000)
    assert not objective.choice


@pytest.mark.parametrize("fault", ["broken", "wrong"])
def test_what_cannot_be_compiled_is_a_warning_under_auto_and_an_error_if_asked_for(compiles_to, takes, caplog, fault):
    net = Net()
    compiles_to(broken if fault == "broken" else doubled(net.loss))
    takes(1.0, 0.5)
    reason = "InvalidCxxCompiler: No working C" if fault == "broken" else "differ by"
    objective = net.objective("auto")
    objective.choose(lambda: net.trial, num_steps=1000)
    assert objective.choice is False
    assert objective.compiled is None
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert reason in warning
    assert "and more" not in warning
    with pytest.raises(ConfigError, match=r"runtime\.compile=true .*" + reason + ".*leave it at auto"):
        net.objective("true", "cpu").choose(lambda: net.trial, num_steps=1000)


def test_only_batches_of_the_size_tried_are_compiled_and_a_late_failure_is_survived(compiles_to, caplog):
    net = Net()
    compiles_to(net.counted)
    objective = net.objective("true", "cpu")
    objective.choose(lambda: net.trial, num_steps=1000)
    net.num_calls, batch = 0, (net.trial.inputs, net.trial.targets)
    objective(*batch, 32)
    objective(batch[0][:7], batch[1][:7], 7)
    objective(*batch, 64)
    assert net.num_calls == 1
    objective.setting, objective.compiled = "auto", broken
    with net.trial.leaving_no_trace():
        seed_draws(1, torch.device("cpu"))
        found = objective(*batch, 32)[0]
        seed_draws(1, torch.device("cpu"))
        assert torch.equal(found, net.loss(*batch, 32)[0])
    assert "updates are not compiled" in caplog.text
    assert objective.choice is False


def leaves_no_trace(net: Net, compute: Compute) -> None:
    """Check and measure one way to compute the loss; nothing must have changed."""
    classifier, leaves = net.classifier.eval(), net.trial.leaves
    for number, leaf in enumerate(leaves):
        leaf.grad = torch.full_like(leaf, number) if number else None
    state = {name: value.clone() for name, value in classifier.state_dict().items()}
    generators = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    net.trial.check(compute, net.loss)
    assert all(0 < seconds < math.inf for seconds in net.trial.seconds(compute, net.loss))
    assert all(torch.equal(value, state[name]) for name, value in classifier.state_dict().items())
    after = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    assert all(torch.equal(one, other) for one, other in zip(after, generators, strict=True))
    assert leaves[0].grad is None
    assert all(bool((leaf.grad == number).all()) for number, leaf in enumerate(leaves) if number)
    assert not classifier.training


def test_a_trial_leaves_no_trace():
    net = Net()
    leaves_no_trace(net, net.loss)


@pytest.mark.parametrize("is_reproducible", [False, True])
def test_the_compiler_decides_nothing_by_timing_where_runs_are_to_be_reproducible(
    monkeypatch: pytest.MonkeyPatch, is_reproducible: bool
) -> None:
    given = {}
    monkeypatch.setattr(torch, "compile", lambda compute, **arguments: given.update(arguments) or compute)
    try:
        set_up_torch(torch.device("cpu"), None, deterministic=is_reproducible)
        compiled_module.compiled(Net().loss, torch.device("cpu"))
    finally:
        torch.set_deterministic_debug_mode("default")
    assert given["options"]["deterministic"] is is_reproducible
    assert given["options"].keys() <= set(torch._inductor.list_options())


def test_what_earlier_runs_compiled_is_dropped_before_a_run_compiles(compiles_to, monkeypatch) -> None:
    """Or the ninth run of a process would not be compiled: torch._dynamo.config.recompile_limit."""
    order: list[str] = []
    net = Net()
    compiles_to(lambda *batch: order.append("computes") or net.loss(*batch))
    monkeypatch.setattr(torch.compiler, "reset", lambda: order.append("drops"))
    assert net.objective("true", "cpu").compile(net.trial)
    assert order[0] == "drops" and "drops" not in order[1:]


@needs_compiler
def test_a_compiled_run_is_resumed_bit_for_bit_and_differs_from_a_plain_one_by_rounding(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiler"))
    options = ["model.norm=batch", "masking.num_time_masks=1", "optim.learning_rate=0.1"]
    whole = train_small(corpus, tmp_path / "whole", *options, "runtime.compile=true")
    resumed = train_broken_off(corpus, tmp_path / "resumed", monkeypatch, 5, *options, "runtime.compile=true")
    assert same_weights(whole, resumed)
    plain = train_small(corpus, tmp_path / "plain", *options)
    assert not same_weights(whole, plain)  # or nothing was compiled
    for mine, theirs in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "plain"), strict=True):
        for name in ("train_loss", "dev_loss"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4)
    assert (
        small_config(corpus, tmp_path, *options, "runtime.compile=true").fingerprint()
        == small_config(corpus, tmp_path, *options).fingerprint()
    )


@pytest.mark.parametrize(
    "override", ["optim.name=hessian_free", "train.strategy=async_sgd", "train.strategy=async_simulation"]
)
def test_updates_of_another_kind_are_not_compiled(corpus: Path, tmp_path: Path, override: str) -> None:
    assert small_config(corpus, tmp_path, override).compile_setting == "false"
    with pytest.raises(ConfigError, match=r"runtime\.compile=true"):
        small_config(corpus, tmp_path, override, "runtime.compile=true")
    with pytest.raises(ConfigError, match="choose auto, true or false"):
        small_config(corpus, tmp_path, "runtime.compile=perhaps")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_gpu)])
def test_on_a_gpu_updates_are_those_of_a_plain_run_to_rounding(device: str, dtype: torch.dtype) -> None:
    def after_updates(setting: str) -> tuple[dict[str, Tensor], list[float]]:
        net, losses = Net(device), []

        def loss(inputs: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                return net.loss(inputs, targets, divisor)

        objective = UpdateLoss(loss, setting, torch.device(device), Ranks())
        objective.choose(lambda: net.trial, num_steps=1000)
        optimizer = torch.optim.SGD(net.trial.leaves, lr=0.1, momentum=0.9, fused=True)
        net.classifier.train()
        for step in range(20):
            seed_draws(step, torch.device(device))
            inputs = torch.randn(32 if step % 5 else 7, 20, device=device)  # now and then an epoch's last batch
            value, _ = objective(inputs, net.trial.targets[: len(inputs)], len(inputs))
            value.backward()
            optimizer.step()
            losses.append(float(value))
            optimizer.zero_grad(set_to_none=True)
        return net.classifier.state_dict(), losses

    plain, plain_losses = after_updates("false")
    found, losses = after_updates("true")
    again, losses_again = after_updates("true")
    assert losses == pytest.approx(plain_losses, rel=1e-3 if dtype == torch.float32 else 0.05)
    assert losses == losses_again
    assert all(torch.equal(value, again[name]) for name, value in found.items())
    assert any(not torch.equal(value, plain[name]) for name, value in found.items())


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_gpu)])
def test_on_a_gpu_a_trial_leaves_no_trace(device: str) -> None:
    net = Net(device)
    leaves_no_trace(net, compiled_module.compiled(net.loss, torch.device(device)))
