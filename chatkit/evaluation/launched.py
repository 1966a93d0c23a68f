"""A run that several processes share, as `accelerate launch` and `torchrun` start them.

Each process has its own part of the answers; the first one puts the parts together.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chatkit.evaluation.answering import Answering
from chatkit.evaluation.record import ANSWERS, AnswerLog, Run, read_answers, read_run
from chatkit.evaluation.running import Asking, ask, begin, finish, new_record
from chatkit.evaluation.suite import Questions

_PART = "part-{}.jsonl"


@dataclass(frozen=True, slots=True)
class Launch:
    """Which of several processes this is.

    Args:
        rank: its number, from 0.
        world: how many there are.
    """

    rank: int
    world: int


def find_launch() -> Launch | None:
    """Read which of several processes this is; None when it is alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return Launch(int(os.environ["RANK"]), world) if world > 1 else None


def take_one_device() -> None:
    """Let this process see one GPU, its own; call it before anything looks for GPUs."""
    place = int(os.environ.get("LOCAL_RANK", "0"))
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = shown.split(",") if shown else [str(number) for number in range(place + 1)]
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]


async def evaluate_share(
    launch: Launch,
    questions: Questions,
    model: str,
    answering: Answering,
    folder: Path,
    asking: Asking,
    say: Callable[[str], None],
) -> Run:
    """Ask this process's share of a run; all of them return when the run is together.

    Args:
        launch: which process this is.
        questions: what is asked.
        model: the model's name as it was asked for.
        answering: who answers in this process.
        folder: where the run lies, on a disk that all processes see.
        asking: how.
        say: is told how far this process is.

    Raises: as `evaluate`.
    """
    record = new_record(questions, model, answering.asked, asking)
    first = launch.rank == 0
    if first and folder.exists():
        _put_together(folder)
    _meet(launch)
    # The first process makes the folder; all others find it.
    left = begin(questions, record, folder, asking) if first else []
    _meet(launch)
    left = left if first else begin(questions, record, folder, asking)
    part = folder / _PART.format(launch.rank)
    try:
        await ask(left[launch.rank :: launch.world], answering, part, asking.streams, say)
    finally:
        _meet(launch)
        if first:
            _put_together(folder)
            finish(record, folder)
        _meet(launch)
    return read_run(folder)


def _put_together(folder: Path) -> None:
    """Move all parts into the one file; a crash on the way loses and doubles nothing."""
    log = AnswerLog(folder / ANSWERS)
    try:
        for part in sorted(folder.glob(_PART.format("*"))):
            for answer in read_answers(part):
                log.add(answer)
            part.unlink()
    finally:
        log.close()


def _meet(launch: Launch) -> None:
    """Wait for all processes."""
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo", rank=launch.rank, world_size=launch.world)
    distributed.barrier()
