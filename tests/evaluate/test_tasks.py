"""Right answers, blanks and blind comparisons."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivium.evaluate import tasks
from trivium.evaluate.preference import compare, drift
from trivium.evaluate.tasks import Reply, exact_match, mark, prompt_ids, reply_to, word_overlap
from trivium.generate.sampling import Sampling
from trivium.model.transformer import Transformer
from trivium.records import Dialogue, Message
from trivium.text.dialogue import render_prompt
from trivium.text.tokenizer import Tokenizer

MakeModel = Callable[..., Transformer]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Paris", True),
        ("paris.", True),
        ("  PARIS .", True),
        ("Pa\u0301ris", False),
        ("Paris!", False),
        ("in Paris", False),
        ("", False),
    ],
)
def test_an_answer_is_right_but_for_case_spacing_and_a_full_stop(answer: str, right: bool) -> None:
    assert exact_match(answer, ("Paris", "the capital of  France")) is right


def test_equal_characters_match_however_they_are_composed() -> None:
    assert exact_match("caf\u00e9", ("cafe\u0301",))


def dialogue(number: int, kind: str = "", accepted: tuple[str, ...] = ()) -> Dialogue:
    turns = (Message("user", f"What is {number}?"), Message("assistant", f"It is {number}."))
    return Dialogue(turns, "here", accepted=accepted, kind=kind)


def test_accuracy_is_counted_over_all_and_by_kind(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        Reply("It is 0", True, []),
        Reply("it is 1.", True, []),
        Reply("three", True, []),
        Reply("It is 3.", False, []),
    ]
    rooms: list[tuple[int, int]] = []

    def reply(
        model: object, tokenizer: object, prompts: Sequence[Sequence[Message]], sampling: Sampling
    ) -> list[Reply]:
        rooms.append((len(prompts), sampling.max_new_tokens))
        return [said[int(prompt[0].content.strip("What is?"))] for prompt in prompts]

    monkeypatch.setattr(tasks, "reply_to", reply)
    asked = [dialogue(0, "a"), dialogue(1, "b"), dialogue(2, "b", ("two", "three")), dialogue(3, "b")]
    found = mark(None, tokenizer, asked)  # type: ignore[arg-type]
    assert rooms == [(4, 64), (0, 1)]
    long = dialogue(1, "b", ("it is 1", "so warm " * 90))
    assert mark(None, tokenizer, [asked[0], long, *asked[2:]]).exact == 0.75  # type: ignore[arg-type]
    assert rooms[2:] == [(3, 64), (1, 1 + len(tokenizer.encode("so warm " * 90)))]
    assert (found.exact, found.by_kind) == (0.75, {"a": 1.0, "b": pytest.approx(2 / 3)})  # the last never ended
    assert (found.f1, found.ended) == (1.0, 0.75)


@pytest.mark.parametrize(
    ("answer", "overlap"),
    [("The cat sat.", 1.0), ("sat cat THE", 1.0), ("the dog", 0.4), ("dog", 0.0), ("", 0.0), ("the the cat", 2 / 3)],
)
def test_words_in_common_are_counted_against_the_nearest_accepted_answer(answer: str, overlap: float) -> None:
    assert word_overlap(answer, ("the cat sat", "nothing else at all")) == pytest.approx(overlap)


def test_replies_come_in_the_order_of_their_prompts_and_keep_their_end_token(
    tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    model = small_model(vocab_size=tokenizer.vocab_size)
    prompts = [[Message("user", "x" * n)] for n in (9, 1, 5)]
    sampling = Sampling(temperature=3.0, max_new_tokens=25)
    together = reply_to(model, tokenizer, prompts * 10, sampling, seeds=list(range(30)))
    alone = [reply_to(model, tokenizer, [p], sampling, seeds=[i])[0] for i, p in enumerate(prompts * 10)]
    assert together == alone
    ends = {tokenizer.turn_end, tokenizer.end_of_text}
    assert {reply.ended for reply in together} == {True, False}
    assert all((reply.tokens[-1] in ends) is reply.ended for reply in together)
    assert not any(ends.intersection(reply.tokens[:-1]) for reply in together)


def test_a_prompt_is_rendered_as_in_training_and_what_does_not_fit_loses_its_beginning(
    tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    model = small_model(vocab_size=tokenizer.vocab_size)
    short, long = [Message("user", "Hi")], [Message("user", "warm " * 100)]
    first, second = prompt_ids(model, tokenizer, [short, long])
    assert first == render_prompt(short, tokenizer).tolist()
    assert second == render_prompt(long, tokenizer).tolist()[-36:]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_the_win_rate_of_one_is_the_loss_rate_of_the_other(scores: list[tuple[float, float]]) -> None:
    ours, theirs = [a for a, _ in scores], [b for _, b in scores]
    won, lost = compare(ours, theirs), compare(theirs, ours)
    assert won.rate + lost.rate == pytest.approx(1)
    assert won.low <= won.rate <= won.high
    assert compare(ours, ours).rate == pytest.approx(0.5)


def test_the_kl_to_oneself_is_nothing(small_model: MakeModel) -> None:
    model = small_model()
    assert drift(model, model, [[11, 12]], [Reply("", True, [15, 16])], 6).kl == 0


def test_the_kl_is_the_mean_over_answers_however_they_are_cut_and_packed(small_model: MakeModel) -> None:
    policy, reference = small_model(seed=0), small_model(seed=1)
    prompts = [[11, 12], [11, 12], [13], [11, 12]]
    replies = [Reply("", True, tokens) for tokens in ([15, 16], [17], [18] * 30, [19, 20, 21])]
    each = [drift(policy, reference, [p], [r], 6).kl for p, r in zip(prompts, replies, strict=True)]
    for rows in (1, 2, 3, 64):
        whole = drift(policy, reference, prompts, replies, 6, rows=rows).kl
        assert whole == pytest.approx(sum(each) / 4, abs=1e-4)


@torch.no_grad()
def test_the_kl_of_one_token_is_on_average_the_one_that_can_be_counted_out(small_model: MakeModel) -> None:
    policy, reference = small_model(seed=0), small_model(seed=1)
    prompt = torch.tensor([[11, 12, 13]])
    place = torch.arange(3)[None]
    ours, theirs = (m(prompt, place, torch.zeros_like(prompt))[0, -1].log_softmax(-1) for m in (policy, reference))
    exact = (ours.exp() * (ours - theirs)).sum().item()
    every = [Reply("", False, [token]) for token in range(61)]
    for token, reply in enumerate(every):
        one = drift(policy, reference, [[11, 12, 13]], [reply], 6).kl
        assert one == pytest.approx((ours - theirs)[token].item(), abs=1e-4)
    drawn = torch.multinomial(ours.exp(), 2000, replacement=True, generator=torch.Generator().manual_seed(0)).tolist()
    found = drift(policy, reference, [[11, 12, 13]] * 2000, [every[token] for token in drawn], 6, rows=500).kl
    spread = ((ours.exp() * (ours - theirs).square()).sum().item() - exact**2) ** 0.5
    assert abs(found - exact) < 4 * spread / 2000**0.5
