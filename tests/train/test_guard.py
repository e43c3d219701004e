"""Guards: the flag keeps the weights still, signals only raise a flag."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from acoustic.errors import PreemptedError
from acoustic.train.guard import Interrupt, NonFinite
from acoustic.train.optim import OptimConfig, make_optimizer
from acoustic.train.post_mortem import examine


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam", "adamw"])
@pytest.mark.parametrize("bad_step", [0, 2])
def test_weights_are_bit_unchanged_from_the_bad_update_on(name, bad_step):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3))
    optimizer = make_optimizer(OptimConfig(name=name), [weight])
    guard = NonFinite(torch.device("cpu"))
    for step in range(4):
        before = weight.detach().clone()
        weight.grad = torch.full_like(weight, float("nan") if step == bad_step else 1.0)
        guard.update(step, torch.tensor(1.0), weight.grad.norm())
        optimizer.found_inf = guard.found_inf
        optimizer.step()
        assert torch.equal(before, weight) == (step >= bad_step)
    assert guard.bad_step() == bad_step
    for state in optimizer.state[weight].values():
        assert bool(torch.isfinite(torch.as_tensor(state)).all())


def test_infinite_loss_is_bad_too():
    guard = NonFinite(torch.device("cpu"))
    guard.update(0, torch.tensor(1.0), torch.tensor(1.0))
    assert guard.bad_step() is None
    guard.update(1, torch.tensor(float("inf")), torch.tensor(1.0))
    guard.update(2, torch.tensor(1.0), torch.tensor(float("nan")))
    assert guard.bad_step() == 1


@pytest.mark.parametrize(
    ("where", "frames", "told"),
    [
        ("input", [2, 5], "a, c"),
        ("network", range(6), "a, b, c and 1 more"),
        ("loss", [3, 4], "b, d"),
        ("gradient", range(6), "a, b, c and 1 more"),
    ],
)
def test_it_is_told_where_numbers_stopped_being_finite(tmp_path, where, frames, told):
    """The first place of those that come one after another, and the utterances of its frames."""
    inputs, targets, utterances = torch.ones(6, 2), torch.tensor([0, 1, 0, 1, 1, 0]), ["d", "a", "a", "b", "d", "c"]
    network = torch.nn.Linear(2, 2)
    scale = torch.ones(6)
    if where == "input":
        inputs[2, 1], inputs[5, 0], scale[0] = float("nan"), float("inf"), float("nan")
    elif where == "network":
        network.weight.data[0, 0], scale[0] = float("inf"), float("nan")
    elif where == "loss":
        scale[3], scale[4] = float("inf"), float("nan")

    def frame_losses(inputs, targets):
        return scale * functional.cross_entropy(network(inputs), targets, reduction="none")

    index = torch.tensor([7, 1, 2, 9, 8, 4])
    store = SimpleNamespace(batch=lambda of: (inputs, targets), utterances=lambda of: utterances)
    for writes in (False, True):
        error = examine(41, 3, store, index, network, frame_losses, tmp_path, writes)
        assert f"the {where} of update 41 is not finite (utterances {told});" in str(error)
        folder = tmp_path / "nonfinite" / "step-000000041"
        assert str(folder) in str(error) and folder.exists() == writes
    assert (folder / "utterances.txt").read_text().split() == utterances
    batch = torch.load(folder / "batch.pt")
    assert torch.equal(batch["inputs"].nan_to_num(), inputs.nan_to_num()) and torch.equal(batch["targets"], targets)
    assert (
        f"update 41 of epoch 3: the {where} is not finite; frames {list(frames)}," in (folder / "note.txt").read_text()
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_first_signal_asks(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), number)
        assert interrupt.requested
    assert signal.getsignal(number) == before


class AsksWhenItGoes:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # the handler runs here, and Python drops what it raises


def test_a_signal_within_a_destructor_is_not_forgotten(monkeypatch):
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: dropped.append(told.exc_type))
    with Interrupt(at_once=True):
        leaving = AsksWhenItGoes()
        del leaving
        assert dropped == [PreemptedError]
        with pytest.raises(PreemptedError), Interrupt(at_once=True):
            raise AssertionError("not reached")
        with Interrupt() as of_loop:
            assert of_loop.requested


def test_second_signal_leaves_at_once():
    script = (
        "import os, signal\nfrom acoustic.train.guard import Interrupt\n"
        "with Interrupt():\n os.kill(os.getpid(), signal.SIGTERM)\n os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "")
