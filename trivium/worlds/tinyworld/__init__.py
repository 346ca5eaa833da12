"""A small simulated village: stories, instructions, and a judge who knows the truth. No files, no network."""

from trivium.worlds.tinyworld.instructions import ALL, CHECKABLE, KINDS, OPEN, Task, prompts, task
from trivium.worlds.tinyworld.judge import Verdict, exact_match, judge
from trivium.worlds.tinyworld.stories import story

__all__ = ["ALL", "CHECKABLE", "KINDS", "OPEN", "Task", "Verdict", "exact_match", "judge", "prompts", "story", "task"]
