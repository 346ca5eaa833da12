"""What a run will take, before it begins: the rows of each phase's steps, memory, disk. Measures and trains nothing."""

from functools import partial
from typing import NamedTuple

import torch

from trivium import plan
from trivium.compute import best_device
from trivium.config import OptimizerConfig, Recipe
from trivium.config.align import PAIRS
from trivium.model.transformer import in_cpp
from trivium.text.corpus import bytes_of_files, has_world, hub_sets, most_of_files
from trivium.text.documents import MEGABYTE
from trivium.wording import size

STORY_TOKENS, DIALOGUE_TOKENS = 170, 55  # of TinyWorld, roughly: how much of it a run needs
LIBRARIES = 380 * 2**20  # bytes: a process that has opened a run on the CPU, before its first step
COMPILER = 120 * 2**20  # bytes: torch's compiler, once it has been at work
READING, ANSWERING = ("pretrain", "instruct"), ("align",)  # phases by what they do with their rows
PROMPT_TOKENS = 3 * DIALOGUE_TOKENS // 2  # of the longest prompt in a step of reinforcement, roughly
ANSWER_TOKENS = 30  # of an answer that ends, roughly
COMPILED_DISK = 60 * 2**20  # bytes of compiled code, roughly
TOKEN_BYTES, TEXT_BYTES = 2, 4  # on disk, of a token and of the text that it stands for, roughly


class Layout(NamedTuple):
    rows: int
    length: int  # positions of each


def layout_of(name: str, recipe: Recipe) -> Layout:
    """The rows of a step."""
    if name == "reward":
        return packed(recipe, answers=2 * recipe.reward.rows_per_step, group=2)
    if name == "align":
        return packed(recipe, answers=recipe.align.rows_per_step, group=group_of(recipe))
    phase: OptimizerConfig = getattr(recipe, name)
    return Layout(phase.rows_per_step, recipe.model.context_length)


def group_of(recipe: Recipe) -> int:
    """Answers that stand beside one prompt in a step of reinforcement."""
    return 2 if recipe.align.algorithm in PAIRS else recipe.align.group


def packed(recipe: Recipe, *, answers: int, group: int, tokens: int = ANSWER_TOKENS) -> Layout:
    """Answers beside their prompts, as text/branches.py packs them.

    group   answers to one prompt
    tokens  of each answer
    """
    longest = recipe.model.context_length
    prompt = min(PROMPT_TOKENS, longest // 2)
    tokens = min(tokens, recipe.align.max_new_tokens, longest - prompt)
    beside = min(group, (longest - prompt) // tokens)
    return Layout(-(-answers // beside), prompt + beside * tokens)


def layers_in_cpp(recipe: Recipe, *, adapters: bool = True) -> bool:
    """Whether all layers run in C++ where the recipe computes.

    adapters  whether those of phase II count, which do not
    """
    device = torch.device(best_device(recipe.compute.device))
    return in_cpp(recipe.model, device) and not (adapters and recipe.instruct.lora_rank)


class Memory(NamedTuple):
    """Bytes at the peak of the hungriest phase, the libraries included, roughly."""

    likely: int
    most: int  # while every answer is as long as it may be


def memory_of(recipe: Recipe, *, dtype_bytes: int) -> Memory:
    reading, longest = reading_memory(recipe, dtype_bytes=dtype_bytes), recipe.align.max_new_tokens
    answering = [answering_memory(recipe, tokens, dtype_bytes=dtype_bytes) for tokens in (ANSWER_TOKENS, longest)]
    return Memory(*(LIBRARIES + max(reading, each) for each in answering))


def shortage_of_memory(recipe: Recipe, machine: plan.Machine, *, through: str) -> str:
    """What there is to warn of when a run up to this stage may take more memory than there is; else empty."""
    if through == "instruct" and recipe.start.folder and recipe.instruct.lora_rank:
        return ""  # what is reckoned here is that all weights are trained
    width = machine.dtype_bytes
    if through in READING:
        needed = LIBRARIES + reading_memory(recipe, dtype_bytes=width)
    else:
        needed = memory_of(recipe, dtype_bytes=width).likely
    if needed <= machine.memory:
        return ""
    remedy = "take a smaller model, or fewer rows at once (microbatch_rows)"
    return f"that takes about {size(needed)} of memory, and there are {size(machine.memory)}; {remedy}"


def reading_memory(recipe: Recipe, *, dtype_bytes: int) -> int:
    """Bytes of a step of phase I or II."""
    compiled, rows = recipe.compute.compile, max(recipe.pretrain.microbatch_rows, recipe.instruct.microbatch_rows)
    whole = layers_in_cpp(recipe)
    working = plan.peak_memory(recipe.model, rows, dtype_bytes, compiled=compiled, layers_in_cpp=whole)
    return working + COMPILER * compiled


def answering_memory(recipe: Recipe, tokens: int = ANSWER_TOKENS, *, dtype_bytes: int) -> int:
    """Bytes of a step of reinforcement on answers of so many tokens, with the reference and the reward model."""
    tokens = min(tokens, recipe.align.max_new_tokens)
    answers = recipe.align.microbatch_rows
    rows, length = packed(recipe, answers=answers, group=group_of(recipe), tokens=tokens)
    shape = recipe.model.model_copy(update={"context_length": length})
    peak = partial(
        plan.peak_memory, shape, rows, dtype_bytes, compiled=False, layers_in_cpp=layers_in_cpp(recipe, adapters=False)
    )
    working = peak(targets=answers * min(tokens, length))
    if recipe.align.algorithm == "ppo":  # a value model learns beside it
        working += peak(targets=0)
    return working + 2 * 4 * shape.parameters


def disk_of(recipe: Recipe) -> int:
    """Bytes of the run folder: four models, two checkpoints with their optimizer, texts, token files, compiled code."""
    models = 4 * 4 * recipe.model.parameters
    checkpoints = 2 * 3 * 4 * recipe.model.parameters
    text = min(bytes_of_files(recipe.data), most_of_files(recipe.data))
    text += MEGABYTE * recipe.data.hub_megabytes * hub_sets(recipe.data)
    text += STORY_TOKENS * TEXT_BYTES * recipe.data.stories if has_world(recipe.data, "text") else 0
    texts = int(text * (1 + TOKEN_BYTES / TEXT_BYTES))
    return models + checkpoints + texts + (COMPILED_DISK if recipe.compute.compile else 0)
