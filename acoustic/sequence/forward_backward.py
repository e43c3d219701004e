"""Forward-backward over one HMM for a batch of utterances: log likelihoods, posteriors, expected accuracies.

There are two ways of running it, which find the same: PyTorch's operations (vectorised_recursion.py) on any device, and
Triton's kernels (triton_recursion.py) on CUDA devices. The formulas are in recursion.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from acoustic.errors import ConfigError
from acoustic.log import get_logger
from acoustic.sequence.hmm import Hmm
from acoustic.sequence.recursion import HmmOnDevice, Recursion
from acoustic.sequence.triton_recursion import TritonGraph, why_not
from acoustic.sequence.vectorised_recursion import VectorisedGraph

logger = get_logger(__name__)
RECURSIONS = ("auto", "triton", "vectorised")
# What Triton's first answers may differ by from the vectorised ones, relative and absolute: several times what
# roundings make of 1,500 frames.
TOLERANCE = {torch.float32: (1e-5, 1e-3), torch.float64: (1e-9, 1e-9)}
Found = tuple[Tensor, ...]


@dataclass(frozen=True)
class Posteriors:
    """What forward-backward finds.

    Attributes:
        log_likelihood: float64 [B], log of the summed weights of all paths; minus infinity where there is none.
        pdf_posteriors: [T, B, num_pdfs], the probability of each pdf_id at each frame, which is the derivative of the
            log likelihood by the log emissions; zero beyond an utterance's end.
    """

    log_likelihood: Tensor
    pdf_posteriors: Tensor


@dataclass(frozen=True)
class ExpectedAccuracy:
    """What forward-backward finds where paths are weighed by how accurate they are.

    Attributes:
        value: float64 [B], the expected accuracy of a path.
        gradient: [T, B, num_pdfs], its derivative by the log emissions.
    """

    value: Tensor
    gradient: Tensor


class ForwardBackward:
    """An HMM on a device, ready for recursions.

    Triton's kernels are checked where they run: their first answer of each kind is compared with the vectorised one for
    the same batch. If it differs, or cannot be had, the log warns and everything goes on vectorised ("auto"), or a
    ConfigError is raised ("triton").

    Args:
        hmm: the model; shared by all utterances.
        num_pdfs: pdf_ids that emissions are given for.
        leaky_coefficient: probability of a jump after each frame; 1e-5 is Kaldi's.
        device: where to compute.
        dtype: float32, or float64 for tests.
        recursion: one of RECURSIONS; "auto" is Triton's kernels where these can run.

    Raises:
        ConfigError: "triton" where it cannot run.
    """

    def __init__(
        self,
        hmm: Hmm,
        num_pdfs: int,
        leaky_coefficient: float = 1e-5,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        recursion: str = "auto",
    ) -> None:
        model = HmmOnDevice(hmm, num_pdfs, leaky_coefficient, torch.device(device), dtype)
        self._is_demanded, self._tolerance = recursion == "triton", TOLERANCE[dtype]
        self._vectorised = VectorisedGraph(model)
        self._triton: TritonGraph | None = None
        self._checked: set[Callable[[Recursion], Found]] = set()
        if recursion != "vectorised":
            reason = why_not(model.device)
            if reason is None:
                self._triton = TritonGraph(model)
            elif self._is_demanded or model.device.type == "cuda":
                self._do_without_triton(reason)

    def __call__(self, log_emissions: Tensor, lengths: Tensor) -> Posteriors:
        """Run forward and backward.

        Args:
            log_emissions: [T, B, num_pdfs], of the HMM's dtype; minus infinity forbids a pdf_id.
            lengths: int64 [B], frames of each utterance, in falling order; the first is T.
        """
        return Posteriors(*self._find(_posteriors, log_emissions, lengths))

    def log_likelihood(self, log_emissions: Tensor, lengths: Tensor) -> Tensor:
        """The log likelihoods alone, float64 [B], of forward recursions; arguments as for `__call__`."""
        return self._find(_log_likelihood, log_emissions, lengths)[0]

    def expected_accuracy(self, log_emissions: Tensor, lengths: Tensor, accuracies: Tensor) -> ExpectedAccuracy:
        """Run forward and backward over accuracies.

        Args:
            log_emissions, lengths: as for `__call__`.
            accuracies: [T, B, num_pdfs], what a path gains by emitting a pdf_id at a frame.
        """
        return ExpectedAccuracy(*self._find(_expected_accuracy, log_emissions, lengths, accuracies))

    def _find(self, what: Callable[[Recursion], Found], *batch: Tensor) -> Found:
        """Run what is to be found, by Triton once that has been checked."""
        if self._triton is not None and what in self._checked:
            return what(self._triton.recursion(*batch))
        expected = what(self._vectorised.recursion(*batch))
        if self._triton is not None:
            fault = self._fault(self._triton, what, expected, *batch)
            if fault is None:
                self._checked.add(what)
            else:
                self._do_without_triton(fault)
        return expected

    def _fault(
        self, triton: TritonGraph, what: Callable[[Recursion], Found], expected: Found, *batch: Tensor
    ) -> str | None:
        """What is wrong with Triton's answer, if anything is."""
        try:
            found = what(triton.recursion(*batch))
            differences = [_difference(*pair, *self._tolerance) for pair in zip(found, expected, strict=True)]
        except torch.OutOfMemoryError:
            raise  # says nothing of the kernels
        except Exception as error:  # of the compiler, the driver or the launch: nobody's list of them is complete
            return f"Triton's kernels fail: {type(error).__name__}: {error}"
        if not any(differences):
            return None
        return f"Triton's kernels differ from vectorised recursions by up to {max(differences):.3g}"

    def _do_without_triton(self, reason: str) -> None:
        """Go on vectorised, or refuse to.

        Raises:
            ConfigError: Triton was asked for by name.
        """
        if self._is_demanded:
            raise ConfigError(f"{reason}; criterion.recursion=auto or vectorised does without them")
        logger.warning("%s; recursions are vectorised", reason)
        self._triton = None


def _posteriors(recursion: Recursion) -> Found:
    recursion.forward()
    return recursion.log_likelihood(), recursion.backward()[0]


def _log_likelihood(recursion: Recursion) -> Found:
    recursion.forward()
    return (recursion.log_likelihood(),)


def _expected_accuracy(recursion: Recursion) -> Found:
    recursion.forward()
    posteriors, gained = recursion.backward()
    return recursion.expected_accuracy(), gained - gained.sum(2, keepdim=True) * posteriors


def _difference(found: Tensor, expected: Tensor, relative: float, absolute: float) -> float:
    """The greatest difference that is not tolerated: zero if there is none, infinite if one of two is no number."""
    differs = ~torch.isclose(found, expected, relative, absolute, equal_nan=True)
    difference = torch.where(differs, (found - expected).abs(), 0.0)
    return difference.nan_to_num(nan=torch.inf).amax().item()
