"""Files of phone and word times: CTM as NIST's and Kaldi's tools read it, TextGrid as Praat does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from acoustic.errors import DataError


@dataclass(frozen=True)
class TimedLabel:
    """A label with times in seconds from the beginning of the utterance; `label` is empty where there is no word."""

    begin: float
    end: float
    label: str


def ctm_lines(utt: str, labels: Sequence[TimedLabel]) -> Iterator[str]:
    """Lines `utterance channel begin duration label`, in seconds to three decimals; empty labels are left out."""
    for item in labels:
        if item.label:
            yield f"{utt} 1 {item.begin:.3f} {item.end - item.begin:.3f} {item.label}\n"


def textgrid(tiers: Mapping[str, Sequence[TimedLabel]]) -> str:
    """A TextGrid in Praat's long text form with one interval tier for each entry of `tiers`.

    Args:
        tiers: name -> labels that begin at 0, end together, and leave no gaps.

    Raises:
        DataError: there is nothing to show.
    """
    if not tiers or not all(tiers.values()):
        raise DataError("no frames, so that there are no times to show")
    end = max(labels[-1].end for labels in tiers.values())
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.3f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, labels) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {end:.3f}", f"        intervals: size = {len(labels)}"]
        for index, item in enumerate(labels, 1):
            lines += [f"        intervals [{index}]:", f"            xmin = {item.begin:.3f}"]
            lines += [f"            xmax = {item.end:.3f}", f"            text = {_quoted(item.label)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A string as Praat writes it: quotation marks inside are doubled."""
    return '"' + text.replace('"', '""') + '"'
