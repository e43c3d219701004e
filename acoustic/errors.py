"""The exceptions a user can meet. Each carries the exit status its command ends with.

Raise these, never a bare ValueError, for anything a user's input can cause: the command line prints the message
without a traceback and exits with `exit_code`. `assert` is for our own invariants only.
"""

from __future__ import annotations

from pathlib import Path


class AcousticError(Exception):
    """Base of every error that is the user's to fix rather than ours."""

    exit_code = 1


class ConfigError(AcousticError):
    """A wrong option, override or command line (exit status 2)."""

    exit_code = 2


class DataError(AcousticError):
    """Input that cannot be used (exit status 3): says which file, utterance and byte, and what to do about it."""

    exit_code = 3

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        utt: str | None = None,
        byte: int | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.path, self.utt, self.byte, self.line, self.remedy = problem, path, utt, byte, line, remedy
        where = [str(path)] if path is not None else []
        if line is not None:
            where.append(f"line {line}")
        if utt is not None:
            where.append(f"utterance {utt}")
        if byte is not None:
            where.append(f"byte {byte}")
        message = f"{', '.join(where)}: {problem}" if where else problem
        super().__init__(f"{message}; {remedy}" if remedy else message)


class CheckpointError(AcousticError):
    """A checkpoint or model bundle that is damaged, missing or of another run (exit status 4)."""

    exit_code = 4


class TrainingError(AcousticError):
    """Training that cannot go on: non-finite numbers, divergence (exit status 5)."""

    exit_code = 5


class PreemptedError(AcousticError):
    """Training stopped by SIGTERM or SIGUSR1 after saving a checkpoint (exit status 143)."""

    exit_code = 143
