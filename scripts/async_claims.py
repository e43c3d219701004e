"""Figures 2 and 3 of Zeiler et al. 2013 in simulation: SGD, Adagrad, momentum x ReLU, logistic at several P, judged.

    python scripts/async_claims.py OUT_DIR FOLD_OVERRIDES ...

Each FOLD_OVERRIDES is one fold's data as hydra's overrides, separated by blanks, such as
'train.data_dir=data/fold1/train train.ali_dir=exp/tri1_ali dev.data_dir=data/fold1/dev dev.ali_dir=exp/tri1_ali'.
Rates are chosen on the first fold. OUT_DIR gets async.md, async-frames.png, async-time.png and curves.json, anew
after each fold.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from acoustic import fsio
from acoustic.analysis.figures.panel import Panel, colour_of, draw
from acoustic.cli.hydra_config import compose_train_config
from acoustic.study.asynchronous import ACTIVATIONS, OPTIMIZERS, Curve, Setting, Sizes, run_fold, speed_ups, statements
from acoustic.study.cell import only_warnings
from acoustic.study.claims_report import bounds, number, probability
from acoustic.study.verdict import judge

Folds = list[dict[Setting, Curve]]


def main() -> None:
    """Simulate, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("folds", nargs="+", metavar="FOLD_OVERRIDES")
    parser.add_argument("--updates", type=int, default=Sizes.updates, help="of each training (default: %(default)s)")
    parser.add_argument("--width", type=int, default=Sizes.width, help="units a layer (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, default=Sizes.batch_size, help="frames of a gradient (default: %(default)s)"
    )
    parser.add_argument("--replicas", default="1,10,100", help="the numbers P (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    replicas = tuple(int(part) for part in args.replicas.split(","))
    sizes = Sizes(updates=args.updates, width=args.width, batch_size=args.batch_size, replicas=replicas)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    start, folds, chosen = time.monotonic(), [], None
    for place, overrides in enumerate(args.folds, 1):
        common = ["features=fbank_wide", "runtime.device=cpu", *overrides.split()]
        folder = args.out_dir / f"fold{place}"

        def tell(line: str, place: int = place) -> None:
            print(f"fold {place}: {line}", flush=True)

        with only_warnings():
            folds.append(run_fold(compose_train_config, common, sizes, folder, chosen, tell))
        chosen = chosen or {setting: curve.rate for setting, curve in folds[0].items()}
        write_report(folds, sizes, args.out_dir, time.monotonic() - start)
    print((args.out_dir / "async.md").read_text(encoding="utf-8"))


def write_report(folds: Folds, sizes: Sizes, out_dir: Path, seconds: float) -> None:
    """async.md, its figures, and the curves as numbers."""
    panels = [
        draw("async-frames", "frame accuracy over frames seen", lambda figure: paint(figure, folds, False), (9.0, 5.4)),
        draw("async-time", "frame accuracy over simulated time", lambda figure: paint(figure, folds, True), (9.0, 5.4)),
    ]
    lines = [
        "# Asynchronous SGD: Figures 2 and 3 of Zeiler et al. 2013, simulated", "",
        f"{len(folds)} folds, {len(sizes.settings())} lines, {seconds:.0f} s. Nets of {sizes.layers} layers of "
        f"{sizes.width} units, minibatch {sizes.batch_size}, {sizes.updates} updates at a constant rate, chosen for "
        "each line on the first fold. Time in units of one gradient, whose duration is exponentially distributed; a "
        f"message {sizes.network_seconds:g}, a push {sizes.apply_seconds:g}, a fetch {sizes.fetch_seconds:g} at each "
        f"of {sizes.shards} shards.", "",
        *verdicts(folds, sizes), "", *ends(folds, sizes), "",
        *(f"![{panel.alt}]({panel.name}.png)" for panel in panels), "",
    ]  # fmt: skip
    for panel in panels:
        write_png(panel, out_dir)
    fsio.write_text(out_dir / "async.md", "\n".join(lines))
    curves = [{str(setting): dataclasses.asdict(curve) for setting, curve in fold.items()} for fold in folds]
    fsio.write_json(out_dir / "curves.json", curves)


def write_png(panel: Panel, out_dir: Path) -> None:
    """One figure."""
    with fsio.atomic_write(out_dir / f"{panel.name}.png") as file:
        file.write(panel.png)


def verdicts(folds: Folds, sizes: Sizes) -> list[str]:
    """A row for each statement at each P."""
    lines = [
        "| claim | quantity | measured | claimed | p | agree | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for replicas in sizes.replicas:
        for statement in statements(replicas):
            values = np.array([[statement.measure(fold)] for fold in folds])
            judgement = judge(values, statement.bounds)
            interval = f" [{number(judgement.low)}, {number(judgement.high)}]" if math.isfinite(judgement.low) else ""
            cells = [
                statement.text, statement.quantity, f"{number(judgement.mean)}{interval} {statement.unit}",
                bounds(statement.bounds), probability(judgement.p_value),
                f"{judgement.num_inside} of {judgement.num_values}", f"**{judgement.verdict.value}**",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def ends(folds: Folds, sizes: Sizes) -> list[str]:
    """A row for each line of the figures: means over folds."""
    lines = [
        "| line | rate | mean staleness | final dev accuracy [%] | simulated time | times as soon at 90 % of P=1 |",
        "|---|---|---|---|---|---|",
    ]
    speeds = [speed_ups(fold, sizes.replicas) for fold in folds]
    for setting in sizes.settings():
        curves = [fold[setting] for fold in folds]
        times = np.array([speed[setting] for speed in speeds])
        cells = [
            str(setting), f"{curves[0].rate:g}", f"{np.mean([curve.staleness for curve in curves]):.1f}",
            f"{np.mean([curve.final for curve in curves]):.2f}",
            f"{np.mean([curve.seconds[-1] for curve in curves]):.0f}",
            f"{times.mean():.1f}" if times.all() else "not reached",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def paint(figure: Figure, folds: Folds, over_time: bool) -> None:
    """Accuracy, means over folds: a row for each activation, a column for each P, a line for each optimizer."""
    replicas = sorted({setting.replicas for setting in folds[0]})
    axes = figure.subplots(len(ACTIVATIONS), len(replicas), sharey=True, squeeze=False)
    for row, activation in enumerate(ACTIVATIONS):
        for column, count in enumerate(replicas):
            axis = axes[row][column]
            for colour, optimizer in enumerate(OPTIMIZERS):
                curves = [fold[Setting(activation, optimizer, count)] for fold in folds]
                x = np.mean([curve.seconds if over_time else curve.frames for curve in curves], axis=0)
                y = np.mean([curve.accuracies for curve in curves], axis=0)
                axis.plot(x, y, color=colour_of(colour), label=optimizer)
            axis.set_title(f"{activation}, P={count}: accuracy [%]")
            axis.set_xlabel("simulated time [gradients]" if over_time else "frames seen")
    axes[0][0].legend()


if __name__ == "__main__":
    main()
