"""Which algorithm phase III learns by: each is a recipe over the same parts."""

from collections.abc import Callable
from typing import Any

from trivium.phases.align import dpo, policy, ppo
from trivium.phases.align.task import Task
from trivium.train.phase import Phase

ALGORITHMS: dict[str, Callable[[Task], Phase[Any]]] = {
    **dict.fromkeys(policy.ADVANTAGES, policy.build),
    "ppo": ppo.build,
    "dpo": dpo.build,
    "online-dpo": dpo.build_online,
}


def build(task: Task) -> Phase[Any]:
    """The phase that turns instruct, or the last round's model, into aligned."""
    return ALGORITHMS[task.settings.algorithm](task)
