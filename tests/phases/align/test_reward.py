"""The reward model: where it reads, what it learns from, and whether its report tells the truth."""

import math
from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st

from trivium.batch import Answered
from trivium.compute import Compute
from trivium.config import Recipe, resolve
from trivium.distributed.world import alone
from trivium.feedback.store import LabelledPair
from trivium.model.heads import RewardModel, add_reward_head
from trivium.model.transformer import Transformer
from trivium.phases.align import reward
from trivium.phases.align.reward import collate, pairs_of_step, read_answer, read_pair, score
from trivium.records import Label, Message
from trivium.text.dialogue import render_prompt
from trivium.text.tokenizer import Tokenizer
from trivium.train.loop import train

MakeModel = Callable[..., Transformer]
COMPUTE = Compute(torch.device("cpu"), torch.float32, False)
RECIPE: Recipe = resolve(
    {
        "model": {"context_length": 48},
        "reward": {"steps": 40, "rows_per_step": 8, "microbatch_rows": 4, "learning_rate": 5e-3},
    }
)


def pair(number: int, first: str, second: str, preference: float = 1.0) -> LabelledPair:
    return LabelledPair((Message("user", f"Say {number}"),), first, second, preference, 1, False, 1, "sampled", number)


def fresh(tokenizer: Tokenizer, small_model: MakeModel) -> RewardModel:
    return add_reward_head(small_model(vocab_size=tokenizer.vocab_size), 0)


def test_an_answer_is_read_up_to_its_end_token(tokenizer: Tokenizer) -> None:
    read = read_answer([Message("user", "Hi")], "Hello.", tokenizer, 48)
    assert tokenizer.decode(read.prompt, keep_special=True) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(read.answer, keep_special=True) == "Hello.<|im_end|>"
    assert read.answer[-1] == tokenizer.turn_end


def test_an_answer_is_read_behind_the_prompt_that_it_was_written_to(tokenizer: Tokenizer) -> None:
    prompt = [Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "So")]
    assert read_answer(prompt, "Hello.", tokenizer, 100).prompt == render_prompt(prompt, tokenizer).tolist()


def test_an_answer_that_says_nothing_is_its_end_token(tokenizer: Tokenizer) -> None:
    assert read_answer([Message("user", "Hi")], "", tokenizer, 48).answer == [tokenizer.turn_end]


def test_of_what_does_not_fit_the_end_is_read(tokenizer: Tokenizer) -> None:
    asked = [Message("user", "warm " * 60)]
    whole, read = (read_answer(asked, "Hello.", tokenizer, length) for length in (1000, 48))
    assert read.answer == whole.answer
    assert [*read.prompt, *read.answer] == [*whole.prompt, *whole.answer][-48:]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(2, 80))
def test_both_answers_of_a_pair_are_read_behind_the_same_end_of_their_prompt(
    tokenizer: Tokenizer, asked: int, first: int, second: int, length: int
) -> None:
    """Also where an answer leaves no room for its prompt, and where it does not fit itself."""
    prompt = (Message("user", "?" * asked),)
    votes = LabelledPair(prompt, "a" * first, "b" * second, 1.0, 1, False, 1, "sampled", 0)
    one, other = read_pair(votes, tokenizer, length)
    assert one.prompt == other.prompt
    assert one.prompt == render_prompt(prompt, tokenizer).tolist()[-len(one.prompt) :]
    for read, text in ((one, "a" * first), (other, "b" * second)):
        written = [*tokenizer.encode(text), tokenizer.turn_end]
        assert read.answer == written[-(length - 1) :]
        assert len(read.prompt) + len(read.answer) <= length
    whole = len(render_prompt(prompt, tokenizer))
    longer = max(len(one.answer), len(other.answer))
    assert len(one.prompt) == min(whole, length - longer)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_every_vote_is_learned_from_once_in_each_epoch(count: int, per_step: int, seed: int) -> None:
    drawn = [i for step in range(3 * count) for i in pairs_of_step(count, per_step, step, seed)][: 3 * count]
    for epoch in range(3):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert pairs_of_step(count, per_step, 2, seed) == pairs_of_step(count, per_step, 2, seed)


def test_the_order_differs_between_epochs_and_seeds() -> None:
    orders = [tuple(pairs_of_step(20, 20, step, seed)) for step in range(3) for seed in range(3)]
    assert len(set(orders)) == 9


def texts(answers: Answered, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(answers.targets[answers.owners == i]) for i in range(len(answers.ends))]


def test_both_answers_of_a_pair_stand_side_by_side_in_a_batch_the_preferred_first(tokenizer: Tokenizer) -> None:
    pairs = [pair(0, "Yes.", "No, never ever."), pair(1, "Warm", "Cold", 0.5)]
    read = [read_pair(p, tokenizer, 48) for p in pairs]
    batch = collate(read, [p.preference for p in pairs], 48, tokenizer.pad)
    assert texts(batch.answers, tokenizer) == ["Yes.", "No, never ever.", "Warm", "Cold"]
    assert (batch.tokens.flatten()[batch.answers.ends] == tokenizer.turn_end).all()
    assert (batch.preference.tolist(), batch.count.item()) == ([1.0, 0.5], 2)
    assert batch.tokens.shape[1] % 8 == 0
    assert (batch.answers.branches == 2).any(), "one prompt for two answers"


def test_a_score_depends_neither_on_the_batch_nor_on_the_padding(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    model = fresh(tokenizer, small_model)
    asked = ("Hi", "Hi", "Say", "Hi", "Hi")
    read = [
        read_answer([Message("user", text)], "so " * n, tokenizer, 48)
        for text, n in zip(asked, (9, 1, 5, 3, 0), strict=True)
    ]
    together = score(model, read, tokenizer.pad, COMPUTE)
    assert together.shape == (5,)
    for batch_answers in (1, 3):
        torch.testing.assert_close(
            score(model, read, tokenizer.pad, COMPUTE, batch_answers=batch_answers), together, atol=1e-5, rtol=0
        )
    alone_ = torch.cat([score(model, [one], tokenizer.pad, COMPUTE) for one in read])
    torch.testing.assert_close(alone_, together, atol=1e-5, rtol=0)
    assert score(model, [], tokenizer.pad, COMPUTE).shape == (0,)


def test_it_learns_which_answers_were_preferred(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    """Kind ones, on whichever side they stand, against prompts it has not seen."""
    sides = [(f"Gladly {i}.", f"No {i}!", 1.0) if i % 2 else (f"No {i}!", f"Gladly {i}.", 0.0) for i in range(60)]
    pairs = [pair(i, first, second, preference) for i, (first, second, preference) in enumerate(sides)]
    model = fresh(tokenizer, small_model)
    phase = reward.build(RECIPE, model, tokenizer, pairs[:40], pairs[40:], COMPUTE, alone(), name="reward-001")
    reports = list(train(phase, alone(), steps=range(40)))
    assert reports[-1].loss < 0.4 < math.log(2) < reports[0].loss + 0.5
    assert phase.evaluate()["accuracy"] > 0.9
    assert reports[-1].items == 8


def test_single_answers_called_good_or_bad_teach_beside_the_pairs(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    """Kind ones are good; pairs of which nobody knew the better teach nothing about it."""
    ties = [pair(i, f"So {i}.", f"Or {i}.", 0.5) for i in range(4)]
    said = [(f"Gladly {i}.", True) if i % 2 else (f"No {i}!", False) for i in range(40)]
    labels = [Label((Message("user", f"Say {i}"),), text, good, "file:1") for i, (text, good) in enumerate(said)]
    unseen = [pair(i, f"Gladly {i}.", f"No {i}!") for i in range(60, 80)]
    model = fresh(tokenizer, small_model)
    phase = reward.build(RECIPE, model, tokenizer, ties, unseen, COMPUTE, alone(), name="r", labels=labels)
    kinds = {type(batch).__name__ for step in range(8) for batch in phase.batches(step)}
    assert kinds == {"PairBatch", "LabelBatch"}
    assert {report.items for report in train(phase, alone(), steps=range(40))} == {8}
    assert phase.evaluate()["accuracy"] > 0.9
