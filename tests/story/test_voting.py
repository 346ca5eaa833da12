"""Voting in the terminal, with a small model that answers at random."""

import io
import os
import pty
import select
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from trivium.config import resolve, to_toml
from trivium.errors import ConfigError, DataError, RunError
from trivium.feedback.store import NewPair, NewVote, Showing, Store
from trivium.model.transformer import Transformer, initialise
from trivium.phases.align.questions import Question, listed_questions
from trivium.publish import publish, write_text
from trivium.records import Message
from trivium.runs import Run, open_run
from trivium.shelf import Origin, publish_model
from trivium.show import printable
from trivium.story.choosing import answering_model, coming_round, learning_prompts, new_prompts
from trivium.story.guidelines import GUIDELINES, write_guidelines
from trivium.story.voting import read_key, show_pair, vote_in_terminal
from trivium.text.tokenizer import train as train_tokenizer
from trivium.worlds import tinyworld

SETTINGS = {
    "model": {"vocab_size": 320, "num_layers": 1, "width": 16, "num_heads": 2, "num_kv_heads": 2, "mlp_width": 32},
    "align": {"max_new_tokens": 6},
    "compute": {"device": "cpu"},
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an instruct model, and nothing after it."""
    path = tmp_path_factory.mktemp("runs") / "taught"
    tokenizer = train_tokenizer((tinyworld.story(0, i, held_out=False) for i in range(200)), vocab_size=320)
    recipe = resolve(SETTINGS)
    model = initialise(Transformer(recipe.model), 0)
    with open_run(path, create=True) as run:
        write_text(run.recipe, to_toml(recipe))
        publish_model(run.instruct, model, tokenizer, recipe, Origin("instruct", None, {}, None, {}), beside={})
    return path


@pytest.fixture
def run(taught: Path) -> Iterator[Run]:
    """The same run, with no vote in it and no round begun."""
    yield Run(taught)
    for file in taught.glob("feedback.db*"):
        file.unlink()


def say(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def votes_in(run: Run) -> list[str]:
    with Store.open(run.feedback) as store:
        return [vote.choice for vote in store.votes()]


def pair_of(prompt: str, first: str, second: str) -> NewPair:
    return NewPair((Message("user", prompt),), first, second, 1)


def showing(left: str, right: str, ended: tuple[bool, bool] = (True, True)) -> Showing:
    prompt = (Message("user", "Hello?"),)
    return Showing(1, 1, 1, 0, "fresh", False, "", prompt, left, right, ended, "random", None, None)


def screen(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, color_system=None)


def shown_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_line_of_a_pipe_is_a_vote_and_q_leaves(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, "t", "b", "s", "q", "t")
    vote_in_terminal(run.path, rater="ada", count=10)
    assert votes_in(run) == ["tie", "both_bad", "skip"]


def test_the_left_answer_is_the_first_unless_they_were_swapped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, *["1"] * 5, *["2"] * 5)
    vote_in_terminal(run.path, rater="ada", count=10)
    with Store.open(run.feedback) as store:
        votes = store.votes()
    for vote, side in zip(votes, ["left"] * 5 + ["right"] * 5, strict=True):
        assert vote.choice == ("first" if (side == "left") != vote.shown_swapped else "second")
    assert {vote.shown_swapped for vote in votes} == {True, False}


def test_the_end_of_the_input_and_a_key_that_means_nothing_are_no_votes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, "", "3", "t")
    vote_in_terminal(run.path, rater="ada", count=5)
    assert votes_in(run) == ["tie"]


def test_a_session_ends_after_count_pairs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, *["t"] * 20)
    vote_in_terminal(run.path, rater="ada", count=8)
    assert votes_in(run) == ["tie"] * 8


def test_nobody_is_asked_about_the_same_prompt_twice_but_to_measure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        say(monkeypatch, *["t"] * 4)
        vote_in_terminal(run.path, rater="ada", count=4)
    with Store.open(run.feedback) as store:
        prompts = {pair.id: pair.prompt for pair in store.pairs()}
        votes, known = store.votes(), {id for id, queued in store.queued().items() if queued.known}
    asked = [prompts[vote.pair_id] for vote in votes if not vote.repeat and vote.pair_id not in known]
    assert len(votes) == 12
    assert len(set(asked)) == len(asked) > 8


def test_a_vote_is_durable_before_the_next_pair_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[int] = []

    def look_then_vote(console: Console) -> str:
        stored.append(len(votes_in(run)))
        return "tie"

    monkeypatch.setattr("trivium.story.voting.read_choice", look_then_vote)
    vote_in_terminal(run.path, rater="ada", count=3)
    assert stored == [0, 1, 2]


def test_the_last_vote_is_taken_back_and_its_pair_is_asked_about_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "u", "t", "b", "u", "u", "s", "1", "q")
    vote_in_terminal(run.path, rater="ada", count=10)
    assert "there is no vote of this session to take back" in capsys.readouterr().err
    with Store.open(run.feedback) as store:
        history = store.history()
        assert [vote.choice for vote in history[:3]] == ["tie", "both_bad", "skip"]
        first, second = (vote.pair_id for vote in history[:2])
        assert [vote.pair_id for vote in history] == [first, second, first, second]
        assert [vote.withdrawn_at is None for vote in history] == [False, False, True, True]
        assert len(store.votes()) == 2


def test_a_comment_is_kept_with_its_vote_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, "c", "  both   say 1, not q ", "1", "t", "q")
    vote_in_terminal(run.path, rater="ada", count=10)
    with Store.open(run.feedback) as store:
        assert [vote.comment for vote in store.votes()] == ["both   say 1, not q", ""]


def test_the_guidelines_are_those_of_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "g", "q")
    vote_in_terminal(run.path, rater="ada", count=10)
    assert "Prefer the answer that does what was asked." in capsys.readouterr().err
    write_guidelines(run, "Be \x1b[2Jkind.")
    say(monkeypatch, "g", "q")
    vote_in_terminal(run.path, rater="ada", count=10)
    (run.path / GUIDELINES).unlink()
    assert "Be \ufffd[2Jkind." in capsys.readouterr().err


def test_a_vote_that_the_rater_casts_elsewhere_meanwhile_is_not_taken_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(["tie", "elsewhere", "undo", None])

    def choose(console: Console) -> str | None:
        choice = next(said)
        if choice != "elsewhere":
            return choice
        with Store.open(run.feedback) as store:
            (pair_id,) = store.add_pairs([pair_of("Hi", "a", "b")])
            store.add_vote(NewVote(pair_id, store.add_rater("ada").id, "first", idempotency_key="studio"))
        return next(said)

    monkeypatch.setattr("trivium.story.voting.read_choice", choose)
    vote_in_terminal(run.path, rater="ada", count=10)
    assert votes_in(run) == ["first"]


def test_voting_goes_on_while_another_process_holds_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, "t")
    with open_run(run.path, create=False):
        vote_in_terminal(run.path, rater="ada", count=1)
    assert votes_in(run) == ["tie"]


def test_the_end_says_whose_votes_there_are_and_what_to_do_next(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(run.feedback) as store:
        ids = store.add_pairs([pair_of("Hi", "a", "b"), pair_of("Hi", "c", "d"), pair_of("Hi", "e", "f")])
        judge, other = store.add_rater("simulated judge", simulated=True), store.add_rater("bo")
        store.add_votes(NewVote(i, judge.id, "first", idempotency_key=f"judge {i}") for i in ids)
        store.add_vote(NewVote(ids[0], other.id, "first", idempotency_key="bo 0"))
    say(monkeypatch, "t", "s", "b", "q")
    vote_in_terminal(run.path, rater="ada", count=9)
    told = capsys.readouterr()
    assert "2 votes of yours, 1 of others, 3 simulated" in told.out
    assert "For round 1 people cast 3 of 194 votes, enough to tell a win rate of 60% from" in told.out
    assert f"trivium run {run.path} --round" in told.out
    assert "Which is better?" in told.err


def test_the_rater_sees_no_model_and_no_fingerprint(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "t", "t")
    vote_in_terminal(run.path, rater="ada", count=2)
    with Store.open(run.feedback) as store:
        stamps = {pair.first_model for pair in store.pairs()}
    told = capsys.readouterr()
    stamps.discard("")  # of answers that nobody wrote, right and wrong ones that are known
    assert stamps
    assert all(stamp not in told.err + told.out for stamp in stamps)
    assert "instruct" not in told.err


def test_a_run_without_a_model_that_answers_says_how_to_make_one(tmp_path: Path) -> None:
    with open_run(tmp_path / "new", create=True) as new, pytest.raises(RunError, match="trivium run"):
        vote_in_terminal(new.path, rater="ada", count=1)


def test_a_count_below_one_and_a_rater_called_simulated_are_refused(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"count = 0"):
        vote_in_terminal(run.path, rater="ada", count=0)
    with pytest.raises(DataError, match="simulated"):
        vote_in_terminal(run.path, rater="simulated ada", count=1)


def test_a_vote_counts_for_the_round_whose_reward_model_is_still_to_come(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert coming_round(run) == 1
    run.round(1).path.mkdir(parents=True)
    assert coming_round(run) == 1
    publish(run.round(1).reward, lambda fresh: (fresh / "model").write_text("x") and None)
    assert coming_round(run) == 2


def test_the_latest_aligned_model_answers_else_instruct(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for folder in (run.instruct, run.round(1).aligned):
        publish(folder, lambda fresh: (fresh / "model").write_text("x") and None)
        assert answering_model(run) == folder


def test_prompts_come_once_each_and_end_when_none_is_left() -> None:
    prompts = [(Message("user", str(i)),) for i in range(30)]
    asked = [question.prompt for question in new_prompts(listed_questions(prompts), prompts[:10], 25)]
    assert len(asked) == 20
    assert set(asked) == set(prompts[10:])


def test_a_world_that_repeats_itself_still_gives_new_prompts() -> None:
    def ask(index: int) -> Question:
        return Question((Message("user", str(index // 50)),), None)

    prompts = new_prompts(ask, [], 0)
    assert [next(prompts).prompt[0].content for _ in range(4)] == ["0", "1", "2", "3"]


def test_prompts_from_files_are_the_dialogues_own(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(f'{{"instruction": "Say {i}", "output": "{i}"}}\n' for i in range(40)))
    ask = learning_prompts(resolve({"data": {"answers": [str(file)]}}))
    asked = {ask(i).prompt[-1].content for i in range(60)}
    assert asked < {f"Say {i}" for i in range(40)}  # some are held out
    assert all(ask(i).expected == (ask(i).prompt[-1].content.removeprefix("Say "),) for i in range(60))
    assert len(asked) > 20


def test_a_pair_without_a_prompt_says_so() -> None:
    console = screen(80)
    show_pair(console, showing("yes", "no")._replace(prompt=()), title="1 of 2")
    assert "no prompt: two texts by themselves" in shown_on(console)


@pytest.mark.parametrize("width", [60, 140])
def test_answers_stand_side_by_side_where_there_is_room(width: int) -> None:
    console = screen(width)
    show_pair(console, showing("yes", "no"), title="1 of 2")
    together = any("yes" in line and "no" in line for line in shown_on(console).splitlines())
    assert together == (width == 140)
    assert max(map(len, shown_on(console).splitlines())) <= width


def test_an_answer_cannot_steer_the_terminal_nor_be_read_as_markup() -> None:
    assert printable("a\x1b[2Jb\n\tc") == "a\ufffd[2Jb\n\tc"
    console = screen(60)
    show_pair(console, showing("[red]\x1b[2J", "", (False, True)), title="1 of 2")
    assert "[red]\ufffd[2J … goes on" in shown_on(console)
    assert "says nothing" in shown_on(console)


@pytest.mark.parametrize(
    ("sent", "key"), [(b"1", "1"), (b"T", "t"), (b"\x1b[D", "\x1b[D"), (b"\x1bOC", "\x1bOC"), (b"\x04", "\x04")]
)
def test_a_single_key_of_a_terminal_is_read_without_enter(
    sent: bytes, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, terminal = pty.openpty()
    real_read, typed = os.read, [False]

    def read(descriptor: int, count: int) -> bytes:
        if not typed[0]:  # only now, as what was typed before is forgotten
            typed[0] = True
            os.write(person, sent)
        return real_read(descriptor, count)

    monkeypatch.setattr("trivium.story.voting.os.read", read)
    tty.setcbreak(terminal)
    os.write(person, b"q")
    assert select.select([terminal], [], [], 5)[0]  # it has arrived
    try:
        assert read_key(terminal) == key
    finally:
        os.close(person)
        os.close(terminal)
