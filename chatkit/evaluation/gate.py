"""The gate: may a model go live, going by its run and that of the one in place?"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from chatkit.evaluation.comparing import Comparison
from chatkit.stats.paired import holm, no_worse_p
from chatkit.yaml_options import Count, Options, read_yaml

Share = Annotated[float, Field(ge=0, lt=1)]


class Policy(Options):
    """What a model must show.

    Args:
        alpha: how often a model that is too much worse may pass.
        margin: how much of the mean score it may lose.
        gain: how much it must gain, beyond what a model differs from itself when it is asked
            again; None asks for no gain.
        pairs: the fewest samples that decide anything.
        slice_margin: how much it may lose in a slice; None looks at no slices.
        noise_floor: whether one of the models must have been asked twice.
    """

    title: ClassVar[str] = "the policy"

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    margin: Share = 0.05
    gain: Share | None = None
    pairs: Count = 30
    slice_margin: Share | None = 0.1
    noise_floor: bool = True


class Outcome(IntEnum):
    """What the gate says, as an exit code."""

    PASS = 0
    FAIL = 1
    NOT_ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says, and why.

    Args:
        outcome: pass, fail, or not enough evidence.
        reasons: one sentence each, those that decided first.
    """

    outcome: Outcome
    reasons: tuple[str, ...]


def read_policy(path: Path) -> Policy:
    """Read a policy from a YAML file.

    Raises:
        InputError: it cannot be read, or an option is wrong.
    """
    return Policy.model_validate(read_yaml(path, "`margin` or `gain`"))


def judge_gate(comparison: Comparison, policy: Policy) -> Verdict:
    """Decide by a paired test at the policy's level.

    A pass has shown that the loss is within the margin (or the gain above what is asked for); a
    fail has shown the contrary; everything else is not enough evidence. A run that failed half-way
    never passes.

    Args:
        comparison: of the new model with the old one.
        policy: what is asked for.
    """
    values = list(comparison.differences.values())
    if lacking := _lacking(comparison, policy):
        return Verdict(Outcome.NOT_ENOUGH, tuple(lacking))
    if failed := _failed_slices(comparison, policy):
        return Verdict(Outcome.FAIL, tuple(failed))
    gain, allowed = comparison.gain, policy.margin
    wanted = f"no more than {policy.margin:.1%} worse"
    if policy.gain is not None:
        noise = max((abs(one.difference.value) for one in comparison.floors.values()), default=0.0)
        allowed = -(policy.gain + noise)
        wanted = f"more than {policy.gain:.1%} better and above a noise floor of {noise:.1%}"
    said = (
        f"mean difference {gain.value:+.1%} "
        f"[{gain.low:+.1%}, {gain.high:+.1%}] over {gain.pairs} pairs"
    )
    shown = no_worse_p(values, allowed)
    if shown <= policy.alpha:
        return Verdict(Outcome.PASS, (f"Shown to be {wanted} (p = {shown:.4f}): {said}.",))
    contrary = no_worse_p([-value for value in values], -allowed)
    if contrary <= policy.alpha:
        return Verdict(Outcome.FAIL, (f"Shown not to be {wanted} (p = {contrary:.4f}): {said}.",))
    visible = comparison.visible
    hint = (
        f"{gain.pairs} pairs show {visible:.0%} or more"
        if visible is not None
        else f"{gain.pairs} pairs show nothing"
    )
    return Verdict(
        Outcome.NOT_ENOUGH,
        (f"Not shown to be {wanted} (p = {shown:.4f}), nor the contrary: {said}; {hint}.",),
    )


def _lacking(comparison: Comparison, policy: Policy) -> list[str]:
    found = [
        f"The {name} run is {run.record.status}: {len(run.failed)} answers failed and "
        f"{run.missing} are missing; go on with it."
        for name, run in (("old", comparison.old), ("new", comparison.new))
        if run.record.status != "complete"
    ]
    if comparison.gain.pairs < policy.pairs:
        found.append(
            f"There are {comparison.gain.pairs} pairs and the policy wants {policy.pairs}; ask "
            "more samples."
        )
    if policy.noise_floor and not comparison.floors:
        found.append(
            "Neither model was asked twice, so the noise floor is unknown; run one with --passes 2."
        )
    return found


def _failed_slices(comparison: Comparison, policy: Policy) -> list[str]:
    if policy.slice_margin is None:
        return []
    p_values = {
        label: no_worse_p([-value for value in values], -policy.slice_margin)
        for label, values in comparison.slice_differences.items()
    }
    return [
        f"Shown to be more than {policy.slice_margin:.1%} worse in {label} "
        f"({comparison.slices[label].value:+.1%} over {comparison.slices[label].pairs} pairs)."
        for label, p_value in holm(p_values).items()
        if p_value <= policy.alpha
    ]
