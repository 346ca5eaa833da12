"""Answers packed beside their prompts: nothing that a model says of them may tell it from rows of their own."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from trivium.batch import Answered
from trivium.evaluate.preference import answer_logprobs
from trivium.model.attention import branch_mask, document_mask
from trivium.model.heads import RewardModel, add_reward_head
from trivium.model.transformer import Transformer
from trivium.text.branches import pack_answers

MakeModel = Callable[..., Transformer]
PAD = 6

ids = st.lists(st.integers(0, 60), min_size=1, max_size=9)
asked = st.lists(st.tuples(ids, st.lists(ids, min_size=1, max_size=4)), min_size=1, max_size=4)
row_lengths = st.integers(1, 60)


def spread(groups: Sequence[tuple[list[int], list[list[int]]]]) -> tuple[list[list[int]], list[list[int]]]:
    """One prompt per answer."""
    pairs = [(prompt, answer) for prompt, answers in groups for answer in answers]
    return [prompt for prompt, _ in pairs], [answer for _, answer in pairs]


@pytest.fixture
def model(small_model: MakeModel) -> RewardModel:
    return add_reward_head(small_model(), seed=1)


@torch.no_grad()
def alone(model: RewardModel, prompt: list[int], answer: list[int]) -> tuple[Tensor, Tensor]:
    """Log-probabilities and reward of an answer in a row of its own, without anything of what is tested here."""
    row = torch.tensor([[*prompt, *answer]])
    place, document = torch.arange(row.shape[1])[None], torch.zeros_like(row)
    logprobs = model.trunk(row, place, document)[0].log_softmax(-1)
    reward = model.score(model.trunk.hidden(row, place, document_mask(document))[0, -1])[0]
    return logprobs[len(prompt) - 1 : -1].gather(-1, torch.tensor(answer)[:, None])[:, 0], reward


def documents(answers: Answered, number: int) -> list[int]:
    """What the last token of an answer sees, itself included."""
    row, place = divmod(int(answers.ends[number]), answers.tokens.shape[1])
    seen = branch_mask(answers.trees, answers.branches)[row, 0, place] == 0
    return answers.tokens[row][seen].tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the model is only read
@given(asked, row_lengths)
def test_packed_answers_are_worth_what_each_is_in_a_row_of_its_own(
    model: RewardModel, groups: list[tuple[list[int], list[list[int]]]], row_length: int
) -> None:
    prompts, written = spread(groups)
    answers = pack_answers(prompts, written, row_length, PAD)
    with torch.no_grad():
        logprobs, rewards = answer_logprobs(model.trunk, answers), model(answers)
    each = [alone(model, prompt, answer) for prompt, answer in zip(prompts, written, strict=True)]
    torch.testing.assert_close(logprobs, torch.cat([found for found, _ in each]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rewards, torch.stack([found for _, found in each]), atol=1e-5, rtol=1e-5)


@given(asked, row_lengths)
def test_every_answer_sees_its_prompt_and_itself_and_goes_on_where_the_prompt_ends(
    groups: list[tuple[list[int], list[list[int]]]], row_length: int
) -> None:
    prompts, written = spread(groups)
    answers = pack_answers(prompts, written, row_length, PAD)
    mask = branch_mask(answers.trees, answers.branches)[:, 0] == 0
    for number, (prompt, answer) in enumerate(zip(prompts, written, strict=True)):
        assert documents(answers, number) == [*prompt, *answer]
        row, place = divmod(int(answers.ends[number]), answers.tokens.shape[1])
        assert answers.positions[row][mask[row, place]].tolist() == list(range(len(prompt) + len(answer)))


@given(asked, row_lengths)
def test_each_token_is_predicted_from_the_one_before_it(
    groups: list[tuple[list[int], list[list[int]]]], row_length: int
) -> None:
    prompts, written = spread(groups)
    answers = pack_answers(prompts, written, row_length, PAD)
    flat = answers.tokens.flatten()
    assert answers.targets.tolist() == [token for answer in written for token in answer]
    for number, (prompt, answer) in enumerate(zip(prompts, written, strict=True)):
        mine = answers.owners == number
        assert answers.targets[mine].tolist() == answer
        assert flat[answers.sources[mine]].tolist() == [prompt[-1], *answer[:-1]]
        assert flat[answers.ends[number]] == answer[-1]
        where = answers.positions.flatten()[answers.sources[mine]].tolist()
        assert where == list(range(len(prompt) - 1, len(prompt) + len(answer) - 1))


@given(asked, row_lengths)
def test_rows_are_as_long_as_asked_or_as_the_longest_answer_with_its_prompt_and_a_multiple_of_eight(
    groups: list[tuple[list[int], list[list[int]]]], row_length: int
) -> None:
    prompts, written = spread(groups)
    answers = pack_answers(prompts, written, row_length, PAD)
    longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, written, strict=True))
    rows, length = answers.tokens.shape
    assert length % 8 == 0
    assert longest <= length < max(longest, row_length) + 8
    assert rows <= len(written)
    for field in answers[1:4]:
        assert field.shape == (rows, length)
    assert all(field.dtype == torch.int64 for field in answers)
    padding = answers.trees < 0
    assert (answers.tokens[padding] == PAD).all()
    assert not padding.all(1).any(), "an empty row"


def test_two_answers_to_one_prompt_and_one_to_another_by_hand() -> None:
    answers = pack_answers([[1, 2, 3], [1, 2, 3], [4]], [[11, 12], [13], [14, 15]], row_length=10, pad=0)
    assert answers.tokens.tolist() == [[1, 2, 3, 11, 12, 13, 4, 14, 15, *[0] * 7]]
    assert answers.positions[0, :9].tolist() == [0, 1, 2, 3, 4, 3, 0, 1, 2]
    assert answers.trees.tolist() == [[0, 0, 0, 0, 0, 0, 2, 2, 2, *[-1] * 7]]
    assert answers.branches[0, :9].tolist() == [0, 0, 0, 1, 1, 2, 0, 1, 1]
    assert answers.targets.tolist() == [11, 12, 13, 14, 15]
    assert answers.sources.tolist() == [2, 3, 2, 6, 7]
    assert answers.owners.tolist() == [0, 0, 1, 2, 2]
    assert answers.ends.tolist() == [4, 5, 8]


def test_places_count_through_all_rows_by_hand() -> None:
    answers = pack_answers([[1, 2, 3], [1, 2, 3], [4]], [[11, 12], [13], [14, 15]], row_length=6, pad=0)
    assert answers.tokens.tolist() == [[1, 2, 3, 11, 12, 13, 0, 0], [4, 14, 15, 0, 0, 0, 0, 0]]
    assert answers.sources.tolist() == [2, 3, 2, 8, 9]
    assert answers.ends.tolist() == [4, 5, 10]


def test_a_prompt_is_read_once_as_far_as_the_row_reaches_and_again_in_the_next() -> None:
    answers = pack_answers([[1, 2, 3]] * 5, [[11, 12], [13], [14, 15], [16, 17], [18]], row_length=8, pad=0)
    assert answers.tokens.tolist() == [[1, 2, 3, 11, 12, 13, 14, 15], [1, 2, 3, 16, 17, 18, 0, 0]]
    assert answers.branches.tolist() == [[0, 0, 0, 1, 1, 2, 3, 3], [0, 0, 0, 1, 1, 2, 0, 0]]
    assert answers.owners.tolist() == [0, 0, 1, 2, 2, 3, 3, 4]
    assert answers.sources.tolist() == [2, 3, 2, 2, 6, 10, 11, 10]
    assert answers.ends.tolist() == [4, 5, 7, 12, 13]


def test_equal_prompts_are_shared_only_where_they_follow_one_another() -> None:
    """And an answer that does follow another prompt's sees nothing of the first."""
    answers = pack_answers([[1, 2], [3], [1, 2]], [[11], [12], [13]], row_length=8, pad=0)
    assert answers.tokens.tolist() == [[1, 2, 11, 3, 12, 1, 2, 13]]
    assert answers.trees.tolist() == [[0, 0, 0, 1, 1, 2, 2, 2]]


def test_a_prompt_that_begins_another_is_not_taken_for_it() -> None:
    answers = pack_answers([[1, 2], [1, 2, 3], [1, 2]], [[3, 4], [4], [5]], row_length=40, pad=0)
    assert answers.tokens[0, :11].tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 5]
    assert [documents(answers, i) for i in range(3)] == [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 5]]


def test_what_does_not_fit_gets_a_longer_row_of_its_own() -> None:
    answers = pack_answers([[1], list(range(20)), [1]], [[11], [12, 13], [14]], row_length=8, pad=0)
    assert answers.tokens.shape == (3, 24)
    assert answers.tokens[1].tolist() == [*range(20), 12, 13, 0, 0]
    assert (answers.trees[0] >= 0).sum() == (answers.trees[2] >= 0).sum() == 2
    assert answers.ends.tolist() == [1, 24 + 21, 48 + 1]


def test_a_second_answer_to_a_prompt_that_does_not_fit_has_a_longer_row_too() -> None:
    answers = pack_answers([list(range(20))] * 2, [[12, 13], [14]], row_length=8, pad=0)
    assert answers.tokens.tolist() == [[*range(20), 12, 13, 0, 0], [*range(20), 14, 0, 0, 0]]


@torch.no_grad()
def test_answers_to_one_prompt_do_not_see_each_other(model: RewardModel) -> None:
    """To the bit: another first answer changes nothing of the second, nor another second of the first."""
    prompts = [[21, 22, 23]] * 2

    def found(*written: list[int]) -> tuple[Tensor, Tensor]:
        answers = pack_answers(prompts, written, 16, PAD)
        assert answers.tokens.shape[0] == 1
        return answer_logprobs(model.trunk, answers), model(answers)

    logprobs, rewards = found([31, 32, 33], [41, 42])
    first_changed, rewards_then = found([34, 35, 36], [41, 42])
    assert torch.equal(first_changed[3:], logprobs[3:])
    assert rewards_then[1] == rewards[1]
    assert rewards_then[0] != rewards[0]
    second_changed, rewards_then = found([31, 32, 33], [43, 44])
    assert torch.equal(second_changed[:3], logprobs[:3])
    assert rewards_then[0] == rewards[0]
    assert rewards_then[1] != rewards[1]


def test_learning_from_one_answer_moves_nothing_through_another(model: RewardModel) -> None:
    """Gradients reach the prompt and the answer itself, and no other answer, other prompt or padding."""
    answers = pack_answers([[21, 22], [21, 22], [23]], [[31, 32], [41, 42], [51]], 16, PAD)
    embedded = model.trunk.embed_tokens(answers.tokens).detach().requires_grad_()
    model.trunk.embed_tokens.forward = lambda ids: embedded  # type: ignore[method-assign]
    logprobs = answer_logprobs(model.trunk, answers)
    (model(answers)[1] + logprobs[answers.owners == 1].sum()).backward()
    assert embedded.grad is not None
    reached = embedded.grad[0].abs().amax(-1) > 0
    assert answers.tokens[0].tolist() == [21, 22, 31, 32, 41, 42, 23, 51, *[PAD] * 8][: answers.tokens.shape[1]]
    assert reached.tolist()[:8] == [True, True, False, False, True, True, False, False]
    assert not reached[8:].any()


@torch.no_grad()
def test_padding_changes_nothing(model: RewardModel) -> None:
    """Whatever token it is, and however much of it there is."""
    prompts, written = [[21, 22], [21, 22], [23]], [[31], [32, 33], [34]]
    answers = pack_answers(prompts, written, 16, PAD)
    assert (answers.trees < 0).any()
    other = pack_answers(prompts, written, 16, 60)
    assert not torch.equal(other.tokens, answers.tokens)
    assert torch.equal(answer_logprobs(model.trunk, other), answer_logprobs(model.trunk, answers))
    assert torch.equal(model(other), model(answers))
    beside_a_long_one = pack_answers([*prompts, list(range(30))], [*written, [35]], 5, PAD)
    assert beside_a_long_one.tokens.shape == (3, 32)
    found = answer_logprobs(model.trunk, beside_a_long_one)[:-1]
    torch.testing.assert_close(found, answer_logprobs(model.trunk, answers), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(beside_a_long_one)[:-1], model(answers), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_logprobs_are_those_of_the_sampling_temperature(model: RewardModel) -> None:
    answers = pack_answers([[21, 22]] * 2, [[31], [32]], 16, PAD)
    row = torch.tensor([[21, 22]])
    logits = model.trunk(row, torch.tensor([[0, 1]]), torch.zeros_like(row))[0, -1]
    expected = (logits / 0.7).log_softmax(-1)[[31, 32]]
    torch.testing.assert_close(answer_logprobs(model.trunk, answers, temperature=0.7), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("prompt", "answer"), [([], [1]), ([1], []), ([], [])])
def test_an_answer_without_a_prompt_or_without_a_token_is_our_mistake(prompt: list[int], answer: list[int]) -> None:
    with pytest.raises(AssertionError, match="an answer needs a prompt, and a token"):
        pack_answers([[1], prompt], [[2], answer], 8, PAD)


def test_as_many_prompts_as_answers() -> None:
    with pytest.raises(ValueError, match="shorter"):
        pack_answers([[1], [2]], [[3]], 8, PAD)
