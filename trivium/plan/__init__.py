"""The dial: from minutes to model size, tokens and steps, by measuring this machine. What `trivium plan` prints.

It chooses only what the recipe leaves open. The shape is settled before training begins; how many steps a phase has is
settled when the phase begins, from the speed of its own steps and the time that is left, and written into recipe.toml.
"""

from trivium.plan.choices import (
    GATE_FROM_MINUTES,
    MICROBATCHES,
    choose_echoes,
    choose_exam,
    choose_pairs,
    choose_warmup,
    get_key,
    open_keys,
    set_default,
    set_key,
    steps_over,
)
from trivium.plan.clock import (
    COMPILE_FROM_MINUTES,
    ENOUGH_STEPS,
    FEWEST_STEPS,
    LOOKS,
    SHARES,
    Dial,
    Look,
    Pace,
    share_through,
)
from trivium.plan.ladder import (
    LADDER,
    Budget,
    Choice,
    Fits,
    Timer,
    Trial,
    choose_shape,
    fitting_heads,
    shapes,
    usual_share,
    vocabulary,
)
from trivium.plan.machine import Machine, machine_name, measure_machine
from trivium.plan.memory import peak_memory
from trivium.plan.scaling import LAWS, Law, Leap, more_bytes_in
from trivium.plan.steps import Follow, choose_candidates, follow, multiplied

__all__ = [
    "COMPILE_FROM_MINUTES",
    "ENOUGH_STEPS",
    "FEWEST_STEPS",
    "GATE_FROM_MINUTES",
    "LADDER",
    "LAWS",
    "LOOKS",
    "MICROBATCHES",
    "SHARES",
    "Budget",
    "Choice",
    "Dial",
    "Fits",
    "Follow",
    "Law",
    "Leap",
    "Look",
    "Machine",
    "Pace",
    "Timer",
    "Trial",
    "choose_candidates",
    "choose_echoes",
    "choose_exam",
    "choose_pairs",
    "choose_shape",
    "choose_warmup",
    "fitting_heads",
    "follow",
    "get_key",
    "machine_name",
    "measure_machine",
    "more_bytes_in",
    "multiplied",
    "open_keys",
    "peak_memory",
    "set_default",
    "set_key",
    "shapes",
    "share_through",
    "steps_over",
    "usual_share",
    "vocabulary",
]
