"""The text of `topo`: left-to-right models for phones, a model with freer transitions for silence."""

from __future__ import annotations

from collections.abc import Sequence


def topology_text(
    nonsilence: Sequence[int], silence: Sequence[int], num_nonsilence_states: int, num_silence_states: int
) -> str:
    """The topology Kaldi's gen_topo.pl writes.

    Nonsilence phones: a chain of states, each looping with probability 0.75. Silence phones with three states or
    more: every state but the last reaches every state but the first (the first reaches all but the last), with
    equal probability.

    Args:
        nonsilence, silence: phone ids.
        num_nonsilence_states: 1 or more.
        num_silence_states: 1, or 3 or more.
    """
    nonsilence_states = [chain_state(state) for state in range(num_nonsilence_states)]
    return "\n".join(
        [
            "<Topology>",
            *entry_lines(nonsilence, nonsilence_states),
            *entry_lines(silence, silence_states(num_silence_states)),
            "</Topology>\n",
        ]
    )


def entry_lines(phones: Sequence[int], states: Sequence[str]) -> list[str]:
    """One <TopologyEntry>; its last state, which emits nothing, is added here."""
    return [
        "<TopologyEntry>",
        "<ForPhones>",
        " ".join(map(str, phones)),
        "</ForPhones>",
        *states,
        f"<State> {len(states)} </State>",
        "</TopologyEntry>",
    ]


def chain_state(state: int) -> str:
    """A state that loops or goes on to the next."""
    return state_line(state, {state: "0.75", state + 1: "0.25"})


def silence_states(num_states: int) -> list[str]:
    """The emitting states of a silence phone."""
    if num_states == 1:
        return [chain_state(0)]
    prob = f"{1.0 / (num_states - 1):.15g}"  # Perl's way to print a number
    first = state_line(0, dict.fromkeys(range(num_states - 1), prob))
    middle = [state_line(state, dict.fromkeys(range(1, num_states), prob)) for state in range(1, num_states - 1)]
    return [first, *middle, chain_state(num_states - 1)]


def state_line(state: int, transitions: dict[int, str]) -> str:
    """One emitting state, its pdf class equal to its number, with {next state: probability}."""
    arcs = " ".join(f"<Transition> {target} {prob}" for target, prob in transitions.items())
    return f"<State> {state} <PdfClass> {state} {arcs} </State>"
