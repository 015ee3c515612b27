#!/usr/bin/env python3
"""Times one training step on this CPU, and ways to make it faster.

    python benchmarks/experiments/train_step.py --batch-size 8 --image-size 192

The network `demo` with 30 classes, three boxes per image, random pixels; CPU milliseconds of one
thread, in turns, the median of all but the first rounds. Each way changes one thing of the line
before it; `fit` trains as the last but two.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

import rsna_lumbar.train.fitting
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

prepare_third_party("train")  # before the libraries below are imported

import torch  # noqa: E402
from ultralytics.cfg import get_cfg  # noqa: E402
from ultralytics.nn.tasks import DetectionModel  # noqa: E402

PARTS = ("forward", "loss", "backward", "update")
CLASSES, BOXES = 30, 3
WARM_UP = 3  # rounds that do not count


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    channels_last: bool = True
    fused: bool = True
    bfloat16: bool = False
    compiled: bool = False


WAYS = (
    Way("channels first", channels_last=False, fused=False),
    Way("channels last", fused=False),
    Way("and AdamW in one kernel"),
    Way("and bfloat16", bfloat16=True),
    Way("and torch.compile", compiled=True),
)


@dataclass(slots=True)
class Training:
    """A network that is trained in one way, on the same images again and again."""

    way: Way
    images: torch.Tensor  # (N, 3, S, S), 0 to 1
    boxes: dict[str, torch.Tensor]
    model: Any = field(init=False)
    forward: Any = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    rounds: list[list[float]] = field(init=False, default_factory=list)  # seconds by part

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        demo = Path(rsna_lumbar.train.fitting.__file__).with_name("yolov8-demo.yaml")
        self.model = DetectionModel(str(demo), nc=CLASSES, verbose=False)  # type: ignore[no-untyped-call]
        self.model.args = get_cfg()
        self.model.train()
        if self.way.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.forward = torch.compile(self.model) if self.way.compiled else self.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, fused=True if self.way.fused else None
        )

    def step(self) -> None:
        times = [time.process_time()]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.way.bfloat16):
            found = self.forward(self.images)
            times.append(time.process_time())
            loss = self.model.loss({"img": self.images, **self.boxes}, found)[0].sum()
        times.append(time.process_time())
        self.optimizer.zero_grad()
        loss.backward()
        times.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()
        times.append(time.process_time())
        self.rounds.append([end - start for start, end in pairwise(times)])


@click.command()
@click.option("--batch-size", default=16, show_default=True)
@click.option("--image-size", default=192, show_default=True, help="Side in pixels.")
@click.option("--rounds", default=20, show_default=True)
def main(batch_size: int, image_size: int, rounds: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.rand(batch_size, 3, image_size, image_size)
    count = batch_size * BOXES
    boxes = {
        "cls": torch.randint(0, CLASSES, (count, 1)).float(),
        "bboxes": torch.cat([torch.rand(count, 2) * 0.6 + 0.2, torch.full((count, 2), 0.1)], 1),
        "batch_idx": torch.arange(batch_size).repeat_interleave(BOXES).float(),
    }
    trainings = [Training(way, images, boxes) for way in WAYS]
    for _ in range(WARM_UP + rounds):
        for training in trainings:
            training.step()
    click.echo(f"batch {batch_size}, {image_size} px, torch {torch.__version__}, ms of one thread")
    click.echo(f"{'':26}" + "".join(f"{part:>10}" for part in (*PARTS, "all")))
    for training in trainings:
        counted = training.rounds[WARM_UP:]
        parts = [1e3 * statistics.median(part) for part in zip(*counted, strict=True)]
        whole = 1e3 * statistics.median(map(sum, counted))
        figures = "".join(f"{value:10.1f}" for value in (*parts, whole))
        click.echo(f"{training.way.name:26}{figures}")


if __name__ == "__main__":
    main()
