"""Triton's kernels under its interpreter: what they find, and which memory they touch between barriers.

test_triton_recursion.py runs this file, in a process of its own: the interpreter is chosen when Triton is imported.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from triton.runtime import interpreter
from triton.runtime.interpreter import interpreter_builder

from acoustic.errors import ConfigError
from acoustic.sequence import triton_kernels, triton_recursion
from acoustic.sequence.forward_backward import ForwardBackward
from acoustic.sequence.hmm import Hmm
from acoustic.sequence.lattice_free import LatticeFreeConfig, LatticeFreeCriterion
from tests.sequence.hmms import ergodic_hmm, hmm_with_a_state_never_reached, many_of_one_pdf, random_hmm
from tests.triton_tools import Faulty, refuse

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _quick_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's language is prepared once for each module; the interpreter does so at every call of a function."""
    prepare, prepared = interpreter._patch_lang, {triton_kernels.__name__}  # its own: when a kernel is launched

    def call(function: Any, *arguments: Any, **constants: Any) -> Any:
        if function.fn.__module__ not in prepared:
            prepare(function.fn)
            prepared.add(function.fn.__module__)
        return function.rewrite()(*arguments, **constants)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)


def batch(num_pdfs: int, lengths: list[int], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Log emissions, lengths, accuracies; nothing stands where no frames are."""
    torch.manual_seed(seed)
    shape = (lengths[0], len(lengths), num_pdfs)
    emissions, accuracies = 3 * torch.randn(shape, dtype=dtype), torch.rand(shape, dtype=dtype)
    for utt, length in enumerate(lengths):
        emissions[length:, utt] = accuracies[length:, utt] = torch.nan
    return emissions, torch.tensor(lengths), accuracies.nan_to_num()


def by_triton(hmm: Hmm, num_pdfs: int, leaky: float, dtype: torch.dtype) -> ForwardBackward:
    """Recursions by the kernels alone, unchecked."""
    return Unchecked(hmm, num_pdfs, leaky, dtype=dtype, recursion="triton")


class Unchecked(ForwardBackward):
    """Recursions whose answers are the kernels' from the first batch on."""

    def _find(self, what: Callable[[Any], tuple[Tensor, ...]], *batch: Tensor) -> tuple[Tensor, ...]:
        assert self._triton is not None
        return what(self._triton.recursion(*batch))


def assert_same(hmm: Hmm, num_pdfs: int, leaky: float, lengths: list[int], dtype: torch.dtype) -> None:
    """The kernels find what vectorised recursions find."""
    emissions, lengths_, accuracies = batch(num_pdfs, lengths, dtype)
    triton = by_triton(hmm, num_pdfs, leaky, dtype)
    expected = ForwardBackward(hmm, num_pdfs, leaky, dtype=dtype, recursion="vectorised")
    bounds = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}

    def same(found: Any, right: Any) -> None:
        for name, value in vars(right).items():
            torch.testing.assert_close(getattr(found, name), value, **bounds)

    same(triton(emissions, lengths_), expected(emissions, lengths_))
    torch.testing.assert_close(
        triton.log_likelihood(emissions, lengths_), expected.log_likelihood(emissions, lengths_), **bounds
    )
    same(
        triton.expected_accuracy(emissions, lengths_, accuracies),
        expected.expected_accuracy(emissions, lengths_, accuracies),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("leaky", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(2))
def test_random_hmms(seed: int, leaky: float, dtype: torch.dtype) -> None:
    assert_same(random_hmm(seed, num_states=7), 3, leaky, [6, 6, 3, 1], dtype)


@pytest.mark.parametrize("block", [32, 64])
def test_several_slices_and_several_lanes_a_row(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_recursion, "MAX_BLOCK", block)
    hmm = many_of_one_pdf(150, 40)
    graph = triton_recursion.TritonGraph(triton_recursion.HmmOnDevice(hmm, 40, 0.01, CPU, torch.float64))
    assert graph.into_states.num_slices > 2 and graph.into_states.lanes == 1
    assert graph.pdf_sums.lanes > 1
    assert_same(hmm, 40, 0.01, [5, 4], torch.float64)


def test_a_dead_path_is_as_dead() -> None:
    """Emissions that no path makes: minus infinity, and no posteriors, for that utterance alone."""
    hmm = random_hmm(1, num_states=5)
    emissions, lengths, _ = batch(3, [6, 5], torch.float64)
    emissions[2, 1] = -torch.inf
    triton = by_triton(hmm, 3, 0.1, torch.float64)
    found = triton(emissions, lengths)
    expected = ForwardBackward(hmm, 3, 0.1, dtype=torch.float64)(emissions, lengths)
    assert found.log_likelihood[1] == -torch.inf
    torch.testing.assert_close(found.log_likelihood, expected.log_likelihood)
    torch.testing.assert_close(found.pdf_posteriors, expected.pdf_posteriors)
    assert found.pdf_posteriors[:, 0].sum().item() == pytest.approx(6.0)


def test_states_that_are_never_reached_do_no_harm() -> None:
    """Backward probabilities of such a state grow without bound where its pdf_id is the best one."""
    emissions = torch.tensor([-60.0, 0.0]).repeat(40, 1, 1)
    found = by_triton(hmm_with_a_state_never_reached(), 2, 1e-5, torch.float32)(emissions, torch.tensor([40]))
    torch.testing.assert_close(found.pdf_posteriors[:, 0], torch.tensor([1.0, 0.0]).repeat(40, 1))


def test_1500_frames_in_float32() -> None:
    hmm = ergodic_hmm(20, 20)
    emissions, lengths, _ = batch(20, [1500, 20], torch.float32)
    exact = ForwardBackward(hmm, 20, dtype=torch.float64)(emissions.double(), lengths)
    found = by_triton(hmm, 20, 1e-5, torch.float32)(emissions, lengths)
    torch.testing.assert_close(found.log_likelihood, exact.log_likelihood, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(found.pdf_posteriors.double(), exact.pdf_posteriors, rtol=0, atol=2e-4)


def test_the_same_batch_gives_the_same_bits() -> None:
    hmm = ergodic_hmm(40, 10)
    emissions, lengths, accuracies = batch(10, [8, 5], torch.float32)
    runs = [by_triton(hmm, 10, 1e-5, torch.float32) for _ in range(2)]
    first, second = (run.expected_accuracy(emissions, lengths, accuracies) for run in runs)
    assert torch.equal(first.gradient, second.gradient) and torch.equal(first.value, second.value)


@pytest.mark.parametrize("name", ["lfmmi", "lfsmbr"])
def test_criteria_take_the_kernels(name: str) -> None:
    hmm = ergodic_hmm(12, 4)
    alignments = {"a": torch.randint(4, (9,)), "b": torch.randint(4, (5,))}
    loglikes = torch.randn(14, 4, dtype=torch.float64, requires_grad=True)
    found = []
    for recursion in ("triton", "vectorised"):
        config = LatticeFreeConfig(name=name, acoustic_scale=1.0, leaky_coefficient=0.1, recursion=recursion)
        criterion = LatticeFreeCriterion(config, hmm, 4, alignments, dtype=torch.float64)
        supervisions = [criterion.prepare(utt, len(pdfs)) for utt, pdfs in alignments.items()]
        for _ in range(2):  # the second is the kernels' own
            value = criterion(loglikes, supervisions).value
        found.append((value, torch.autograd.grad(value, loglikes)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


# -- what is wrong is not used ------------------------------------------------------------------------------------


def one_more(array: Tensor, *_: Any) -> None:
    array += 0.01


def no_number(array: Tensor, *_: Any) -> None:
    array.view(-1)[0] = torch.nan


@pytest.mark.parametrize(
    ("kernel", "fault", "message"),
    [
        ("forward_kernel", refuse, "fail: RuntimeError: out of resource"),
        ("forward_kernel", one_more, "differ"),
        ("backward_kernel", one_more, "differ"),
        ("pdf_kernel", one_more, "by up to 0.01"),
        ("pdf_kernel", no_number, "by up to inf"),
    ],
)
def test_kernels_that_fail_or_differ_are_not_used(
    kernel: str,
    fault: Callable[..., None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(triton_kernels, kernel, Faulty(getattr(triton_kernels, kernel), fault))
    hmm = ergodic_hmm(10, 4)
    emissions, lengths, _ = batch(4, [5, 3], torch.float32)
    expected = ForwardBackward(hmm, 4, recursion="vectorised")(emissions, lengths)
    recursions = ForwardBackward(hmm, 4)
    for _ in range(2):
        assert torch.equal(recursions(emissions, lengths).pdf_posteriors, expected.pdf_posteriors)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert message in warning.getMessage() and "vectorised" in warning.getMessage()
    with pytest.raises(ConfigError, match=r"criterion\.recursion=auto"):
        ForwardBackward(hmm, 4, recursion="triton")(emissions, lengths)


def test_kernels_that_agree_are_used_from_the_second_batch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    hmm = ergodic_hmm(10, 4)
    emissions, lengths, _ = batch(4, [5, 3], torch.float32)
    recursions = ForwardBackward(hmm, 4)
    first = recursions(emissions, lengths)
    monkeypatch.setattr(recursions, "_vectorised", None)
    torch.testing.assert_close(recursions(emissions, lengths).pdf_posteriors, first.pdf_posteriors)
    with pytest.raises(AttributeError):  # another kind of answer, which has not been checked
        recursions.log_likelihood(emissions, lengths)


def test_without_triton_recursions_are_vectorised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "acoustic.sequence.triton_kernels")
    monkeypatch.setitem(sys.modules, "triton", None)
    for device in (CPU, torch.device("cuda")):
        assert "cannot be imported" in str(triton_recursion.why_not(device))
    hmm = ergodic_hmm(10, 4)
    emissions, lengths, _ = batch(4, [5, 3], torch.float32)
    assert ForwardBackward(hmm, 4)(emissions, lengths).log_likelihood.isfinite().all()
    with pytest.raises(ConfigError, match="cannot be imported"):
        ForwardBackward(hmm, 4, recursion="triton")


# -- races --------------------------------------------------------------------------------------------------------


class Watch:
    """Who touched which address since the last barrier: a lane of a block, and whether it wrote.

    Lanes of arrays of one size are taken to be threads, those of different sizes to be different ones; what is a single
    number any thread may touch. Another program's writes count for good: there is no barrier between programs.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        builder = interpreter_builder
        self.read: dict[int, set[tuple[int, int]]] = {}
        self.written: dict[int, tuple[int, int]] = {}
        self.writer: dict[int, tuple[int, ...]] = {}
        self.program: tuple[int, ...] | None = None
        self.num_barriers = self.num_singles = 0
        load, store = builder.create_masked_load, builder.create_masked_store

        def watched_load(ptrs: Any, mask: Any, *others: Any) -> Any:
            self.touch(ptrs.data, mask.data, writes=False)
            return load(ptrs, mask, *others)

        def watched_store(ptrs: Any, value: Any, mask: Any, *others: Any) -> Any:
            self.touch(ptrs.data, mask.data, writes=True)
            return store(ptrs, value, mask, *others)

        monkeypatch.setattr(builder, "create_masked_load", watched_load)
        monkeypatch.setattr(builder, "create_masked_store", watched_store)
        monkeypatch.setattr(builder, "create_barrier", self.barrier)

    def barrier(self) -> None:
        self.num_barriers += 1
        self.read.clear()
        self.written.clear()

    def touch(self, addresses: np.ndarray, mask: np.ndarray, writes: bool) -> None:
        if interpreter_builder.grid_idx != self.program:
            self.program = interpreter_builder.grid_idx
            self.read.clear()
            self.written.clear()
        flat = np.broadcast_to(mask, addresses.shape).reshape(-1)
        for lane in np.flatnonzero(flat).tolist():
            self.num_singles += addresses.size == 1
            address = int(addresses.reshape(-1)[lane])
            thread = (addresses.size, lane) if addresses.size > 1 else (1, self.num_singles)
            assert self.written.get(address, thread) == thread, "touched after another thread's write"
            assert self.writer.get(address, self.program) == self.program, "touched after another program's write"
            if writes:
                assert self.read.get(address, {thread}) == {thread}, "overwritten after another thread's read"
                self.written[address] = thread
                self.writer[address] = self.program
            else:
                self.read.setdefault(address, set()).add(thread)


def run_watched(monkeypatch: pytest.MonkeyPatch, kernels: Callable[[Any], Any]) -> Watch:
    """Run recursions kernel by kernel, each watched by itself."""
    monkeypatch.setattr(triton_recursion, "MAX_BLOCK", 32)
    emissions, lengths, accuracies = batch(40, [4, 4, 2], torch.float64)
    graph = triton_recursion.TritonGraph(
        triton_recursion.HmmOnDevice(many_of_one_pdf(100, 40), 40, 0.01, CPU, torch.float64)
    )
    recursion = graph.recursion(emissions, lengths, accuracies)
    watch = Watch(monkeypatch)
    launch = recursion._launch

    def watched_launch(*arguments: Any, **constants: Any) -> None:
        launch(*arguments, **constants)
        watch.writer.clear()  # a launch ends before the next begins

    monkeypatch.setattr(recursion, "_launch", watched_launch)
    kernels(recursion)
    return watch


def test_no_thread_reads_what_another_has_just_written(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = run_watched(monkeypatch, lambda recursion: (recursion.forward(), recursion.backward()))
    assert watch.num_barriers == (1 + 2) * (4 + 4 + 2)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_without_barriers_they_would(direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch sees races: of the same kernels, if a barrier did nothing."""
    if direction == "forward":
        monkeypatch.setattr(Watch, "barrier", lambda self: None)

    def run(recursion: Any) -> None:
        recursion.forward()
        monkeypatch.setattr(interpreter_builder, "create_barrier", lambda: None)
        recursion.backward()

    with pytest.raises(Exception, match="another thread") as found:
        run_watched(monkeypatch, run)
    assert f"{direction}_kernel" in "".join(map(str, found.traceback))
