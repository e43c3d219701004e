"""Averages of the weights: their arithmetic, and that they are what is evaluated, kept and resumed."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from acoustic.errors import PreemptedError
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier
from acoustic.train.average import AverageConfig, make_average
from acoustic.train.loop import Trainer
from tests.train.runs import metrics, same_weights, small_config, train_broken_off, train_small


def network(value):
    classifier = SenoneClassifier(ClassifierConfig(hidden_layers=1, hidden_dim=2, norm="batch"), 3, 2)
    set_to(classifier, value)
    return classifier


def set_to(classifier, value):
    for tensor in classifier.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(value)


def value(classifier):
    return float(classifier.output.weight.detach().unique())


def test_exponential_average_by_hand():
    classifier = network(1.0)
    average = make_average(AverageConfig(name="ema", decay=0.75), classifier)
    for weight in (2.0, 4.0, 0.0):
        set_to(classifier, weight)
        average.after_update()
    assert value(average.network) == 0.75 * (0.75 * 2 + 0.25 * 4) + 0.25 * 0
    assert float(average.network.state_dict()["hidden.0.norm.running_var"][0]) == value(average.network)
    assert value(classifier) == 0.0


class CopiesToDevice(TorchDispatchMode):
    """Counts what is copied from the host's memory to a device, for which the host waits."""

    num_copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu" and result.device.type != "cpu":
            self.num_copies += 1
        return result


def test_the_host_does_not_wait_for_an_exponential_average():
    classifier = network(1.0).to("meta")  # a device like others in this
    average = make_average(AverageConfig(name="ema"), classifier)
    average.after_update()
    with CopiesToDevice() as copies:
        average.after_update()
    assert copies.num_copies == 0
    assert average.state_dict()["n_averaged"] == 2


def test_mean_of_the_last_by_hand():
    classifier = network(1.0)
    average = make_average(AverageConfig(name="last", num_last=2), classifier)
    means = []
    for weight in (2.0, 4.0, 9.0):
        set_to(classifier, weight)
        average.after_interval()
        means.append(value(average.network))
    assert means == [2.0, 3.0, 6.5]


@pytest.mark.parametrize("name", ["none", "ema", "last"])
def test_state_round_trip(name):
    config, classifier = AverageConfig(name=name, decay=0.5, num_last=3), network(1.0)
    average = make_average(config, classifier)
    for weight in (2.0, 3.0):
        set_to(classifier, weight)
        average.after_update()
        average.after_interval()
    other = network(3.0)
    again = make_average(config, other)
    again.load_state_dict(average.state_dict())
    for one, its in ((average, classifier), (again, other)):
        set_to(its, 7.0)
        one.after_update()
        one.after_interval()
    assert value(again.network) == value(average.network)


@pytest.mark.parametrize("options", [["average=ema", "average.decay=0.9"], ["average=last", "average.num_last=2"]])
def test_a_broken_off_run_ends_with_the_same_average(corpus, tmp_path, monkeypatch, options):
    options = [*options, "schedule.max_epochs=3", "model.norm=batch"]
    whole = train_small(corpus, tmp_path / "whole", *options)
    broken = train_broken_off(corpus, tmp_path / "broken", monkeypatch, 13, *options)
    assert same_weights(whole, broken)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "broken")
    plain = train_small(corpus, tmp_path / "plain", "schedule.max_epochs=3", "model.norm=batch")
    assert not same_weights(whole, plain)


def test_a_run_broken_off_while_it_is_evaluated_ends_with_the_same_average(corpus, tmp_path, monkeypatch):
    options = ["average=last", "average.num_last=3", "schedule.max_epochs=3"]
    whole = train_small(corpus, tmp_path / "whole", *options)
    evaluate = Trainer.evaluate

    def with_signal(trainer):
        trainer.interrupt.requested = trainer.position.interval == 1
        return evaluate(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "evaluate", with_signal)
        with pytest.raises(PreemptedError):
            train_small(corpus, tmp_path / "broken", *options)
    assert same_weights(whole, train_small(corpus, tmp_path / "broken", *options))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "broken")


def test_the_average_is_what_dev_sees_and_final_pt_holds(corpus, tmp_path, monkeypatch):
    seen = []
    evaluate = Trainer.evaluate

    def remembering(trainer):
        result = evaluate(trainer)
        seen.append((result, {k: v.clone() for k, v in trainer.average.network.state_dict().items()}))
        return result

    monkeypatch.setattr(Trainer, "evaluate", remembering)
    bundle = train_small(corpus, tmp_path / "exp", "average=ema", "average.decay=0.9")
    best = min(seen, key=lambda item: item[0][0])[1]
    assert all(torch.equal(tensor, best[name]) for name, tensor in bundle.classifier.state_dict().items())
    assert small_config(corpus, tmp_path, "average=ema").average.name == "ema"
