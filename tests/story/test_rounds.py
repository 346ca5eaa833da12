"""Phase III goes round and round: votes on files, votes of a judge, votes of nobody, and a second round."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from trivium import cli
from trivium.config import read_settings, resolve
from trivium.evaluate.measures import models_in
from trivium.feedback.store import LabelledPair, NewPair, NewVote, Store
from trivium.lineage import read_lineage
from trivium.phases.align import trust
from trivium.publish import file_fingerprint, verify
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import weights_fingerprint
from trivium.story.choosing import learning_prompts
from trivium.story.collecting import collect_votes, part
from trivium.story.exchanging import import_feedback
from trivium.story.opening import look_into
from trivium.story.rounds import measuring_questions, preferred_answers, reference_of
from trivium.story.trusting import labelled_answers

FROM_FILES = """
[data]
text = ["text.txt"]
answers = ["answers.jsonl"]
pairs = ["pairs.jsonl"]
folder = "FOLDER"
"""


def written_recipe(tiny: Path, folder: Path, *, pairs: list[dict[str, Any]] | None = None) -> Path:
    """The tiny recipe, taught from files that lie beside it."""
    texts = [f"The cat number {i} sat on mat {i * i}. It was warm." for i in range(60)]
    (folder / "text.txt").write_text("\n<|endoftext|>\n".join(texts))
    rows = [{"prompt": f"What is {i} and one?", "response": f"It is {i + 1}."} for i in range(40)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    head = FROM_FILES.replace("FOLDER", str(folder))
    if pairs is None:
        head = head.replace('pairs = ["pairs.jsonl"]\n', "")
    else:
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    rest = tiny.read_text().partition("[compute]")
    path = folder / "files.toml"
    path.write_text(head + rest[1] + rest[2].replace("vocab_size = 300", "vocab_size = 270"))
    return path


def preferences(count: int, *, tie: bool = False) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Say {i}", "chosen": f"Gladly: {i}.", "rejected": f"No {i}!", **({"tie": True} if tie else {})}
        for i in range(count)
    ]


def journaled(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def reference_in(run: Path) -> Path:
    with look_into(run, flags={}) as teller:
        return reference_of(teller)


def labelled(prompt: str, number: int) -> LabelledPair:
    return LabelledPair((Message("user", prompt),), f"a{number}", "b", 1.0, 1, False, 1, "sampled", number)


def test_earlier_answers_of_a_dialogue_are_read_when_its_preferred_end_is_imitated() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "Say so"))
    pair = labelled("", 1)._replace(prompt=turns, source="pairs.jsonl:1", preference=0.0)
    (found,) = preferred_answers([pair, labelled("sampled here", 2)])
    assert (found.answer, found.prompt, found.only_read) == ("b", turns, (1,))


def test_what_was_not_examined_is_before_another_round_begins(finished: Path, stable: Any, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished, run.path)
    more = ("--align.steps", "2", "--votes.pairs", "12")
    stable.finish("align", run.path, "--round", *more, folder=run.path)
    said = stable.finish("run", run.path, "--round", *more, folder=run.path).said
    assert "was not examined yet" in said
    assert [turn.number for turn in run.rounds()] == [1, 2]
    found = json.loads(run.measures.read_text())
    assert models_in(found) == ["base", "instruct", "round-1", "aligned"]
    assert found["weights"][-1] == weights_fingerprint(run.round(2).aligned)
    assert "is finished" in stable.finish("run", run.path, folder=run.path).said


def test_a_second_round_starts_from_the_first_and_learns_from_all_votes(
    finished: Path, stable: Any, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished, run.path)
    changed = ("--votes.pairs", "20", "--align.steps", "2", "--watch.fall", "1")  # that is: keep the last step
    command = ("run", run.path, "--round", *changed)
    assert stable.kill(*command, folder=run.path, after=["reward-002", 2]).code == -9
    stable.finish(*command, folder=run.path)
    assert [turn.number for turn in run.rounds()] == [1, 2]
    assert read_lineage(run.round(2).aligned).parent == file_fingerprint(run.round(1).aligned, "model.safetensors")
    assert list(read_lineage(run.round(2).aligned).data) == ["right answers, again: tinyworld"]
    assert read_lineage(run.round(2).reward).votes != read_lineage(run.round(1).reward).votes
    with Store.open(run.feedback) as store:
        first, second = len(store.pairs(1)), len(store.pairs(2))
        assert 0 < second <= 20
        assert store.counts().votes == first + second
    found = json.loads((run.path / "measures.json").read_text())
    assert found["votes"]["round"] == 2
    assert models_in(found) == ["base", "instruct", "round-1", "aligned"]
    assert found["aligned"]["kl"] != found["round-1"]["kl"]


@pytest.mark.parametrize(("algorithm", "phase", "rows"), [("grpo", "reward", 1), ("dpo", "align", 2)])
def test_where_the_dial_decides_each_round_goes_as_often_over_the_votes_there_are(
    algorithm: str, phase: str, rows: int, recipe: Path, stable: Any, tmp_path: Path
) -> None:
    open_recipe, run = tmp_path / "open.toml", Run(tmp_path / "run")
    head, _, rest = recipe.read_text().partition(f"[{phase}]\nsteps = 6\n")
    open_recipe.write_text(f"{head}[{phase}]\n{rest}")
    stable.finish("run", open_recipe, "--align.algorithm", algorithm, "--out", run.path, folder=run.path)
    other = stable.start("run", run.path, f"--{phase}.steps", "99", folder=run.path)
    assert other.code == 2
    assert f"was begun with {phase}.steps" in other.said
    stable.finish("run", run.path, "--round", "--votes.pairs", "40", folder=run.path)
    taken = []
    for round in run.rounds():
        votes = json.loads((round.path / "votes.json").read_text())["votes"]
        with Store.open(run.feedback) as store:
            labelled = store.labelled_pairs(include_simulated=True, among=frozenset(votes))
        settings = resolve(read_lineage(getattr(round, {"reward": "reward", "align": "aligned"}[phase])).config)
        passes = 2 if phase == "reward" else settings.align.epochs
        learned, _ = part(labelled, settings.reward.held_out_share)
        taken.append(getattr(settings, phase).steps)
        assert taken[-1] == math.ceil(passes * rows * len(learned) / 8)
    assert taken[0] < taken[1]


def test_a_round_that_people_do_not_prefer_is_not_built_upon(finished: Path, stable: Any, tmp_path: Path) -> None:
    """Twenty blind votes for instruct: the next round starts there, also when more come in while it learns."""
    run = Run(tmp_path / "run")
    shutil.copytree(finished, run.path)
    ours, theirs = (weights_fingerprint(folder) for folder in (run.round(1).aligned, run.instruct))
    with Store.open(run.feedback) as store:
        person = store.add_rater("Ada")
        asked = [NewPair((Message("user", f"Say {i}"),), f"a{i}", f"b{i}", 1, ours, theirs) for i in range(60)]
        ids = store.add_pairs(asked)
        store.add_votes([NewVote(i, person.id, "second", idempotency_key=f"{i}") for i in ids[:20]])
    command = ("run", run.path, "--round", "--votes.pairs", "20", "--align.steps", "2")
    assert stable.kill(*command, folder=run.path, after=["reward-002", 2]).code == -9
    with Store.open(run.feedback) as store:
        store.add_votes([NewVote(i, person.id, "first", idempotency_key=f"{i}") for i in ids[20:]])
    stable.finish(*command, folder=run.path)
    assert read_lineage(run.round(2).aligned).parent == theirs


def test_a_vote_cast_while_a_round_learns_waits_for_the_next(finished: Path, stable: Any, tmp_path: Path) -> None:
    run, undisturbed = Run(tmp_path / "run"), Run(tmp_path / "undisturbed")
    command = ("--round", "--votes.pairs", "20", "--align.steps", "2")
    for folder in (run.path, undisturbed.path):
        shutil.copytree(finished, folder)
        assert stable.kill("run", folder, *command, folder=folder, after=["reward-002", 2]).code == -9
    with Store.open(run.feedback) as store:
        pairs, before = store.pairs(2), store.fingerprint()
        person = store.add_rater("Ada")
        store.add_votes([NewVote(pair.id, person.id, "second", idempotency_key=f"{pair.id}") for pair in pairs])
    for folder in (run.path, undisturbed.path):
        stable.finish("run", folder, *command, folder=folder)
    assert read_lineage(run.round(2).reward).votes == before
    for name in ("reward", "aligned"):
        models = [getattr(one.round(2), name) for one in (run, undisturbed)]
        assert len({file_fingerprint(model, "model.safetensors") for model in models}) == 1


def test_a_killed_next_round_is_finished_and_not_begun_twice(finished: Path, stable: Any, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished, run.path)
    command = ("align", run.path, "--round", "--align.steps", "2")
    assert stable.kill(*command, folder=run.path, after=["align-002", 1]).code == -9
    stable.finish(*command, folder=run.path)
    assert [turn.number for turn in run.rounds()] == [1, 2]
    verify(run.round(2).aligned)


def test_pairs_on_file_are_imitated_first_and_a_kill_changes_nothing(
    recipe: Path, stable: Any, facts: Any, tmp_path: Path
) -> None:
    files = written_recipe(recipe, tmp_path, pairs=preferences(40))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    stable.finish("run", files, "--out", whole, folder=whole)
    for where in (
        {"seen": "feedback.db"},
        {"after": ["imitate-001", 1]},
        {"seen": "rounds/001/imitator"},
        {"after": ["align-001", 3]},
    ):
        assert stable.kill("run", files, "--out", killed, folder=killed, **where).code == -9, where
    stable.finish("run", files, "--out", killed, folder=killed)
    found = facts(whole)
    assert "rounds/001/imitator/model.safetensors" in found
    assert facts(killed) == found
    assert found["measures"]["aligned"]["win_rate"] is None
    assert not found["measures"]["votes"]["simulated"]
    with Store.open(whole / "feedback.db") as store:
        assert [rater.simulated for rater in store.raters()] == [False]
    assert reference_in(whole) == Run(whole).round(1).imitator
    stable.finish("align", whole, "--round", "--align.steps", "2", folder=whole)
    begun = {line["phase"]: line["evaluation"] for line in journaled(whole) if line["step"] == 0}
    assert begun["align-001"]["kl"] == 0 < abs(begun["align-002"]["kl"])  # both from what the first round started from
    imported = import_feedback(whole, [tmp_path / "pairs.jsonl"], round=None)
    assert 0 < imported["new"] < imported["votes"] == 40  # those that were held out so far ...
    with look_into(whole, flags={}) as teller:
        votes = collect_votes(teller, Run(whole).round(3))
    learned, measured = ({pair.prompt for pair in pairs} for pairs in (votes.train, votes.held_out))
    assert len(learned | measured) == 40
    assert not learned & measured  # ... still are


def test_pairs_without_a_prompt_are_learned_from_and_the_policy_is_asked_what_instruct_was(
    recipe: Path, stable: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    bare = [{key: row[key] for key in ("chosen", "rejected")} for row in preferences(40)]
    stable.finish("run", written_recipe(recipe, tmp_path, pairs=bare), "--out", run, folder=run)
    verify(run / "rounds" / "001" / "aligned")
    assert not (run / "rounds" / "001" / "imitator").exists(), "a text by itself is no answer to imitate"
    with Store.look(run / "feedback.db") as store:
        assert {pair.prompt for pair in store.pairs()} == {()}
    ask = learning_prompts(resolve(read_settings(run / "recipe.toml")))
    assert all(ask(i).prompt[-1].content.startswith("What is") for i in range(20))


def test_without_votes_the_run_ends_with_instruct_and_says_how_to_vote(
    recipe: Path, stable: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ended = stable.finish("run", written_recipe(recipe, tmp_path), "--out", run, folder=run)
    assert f"Nobody has voted yet. Vote with `trivium vote {run}`" in " ".join(ended.said.split())
    assert set(json.loads((run / "measures.json").read_text())) == {"base", "changes", "instruct", "weights"}


def test_votes_that_are_all_ties_end_no_run(recipe: Path, stable: Any, tmp_path: Path) -> None:
    """They say that nobody knows better, which is something that a report can say."""
    run = tmp_path / "run"
    stable.finish("run", written_recipe(recipe, tmp_path, pairs=preferences(30, tie=True)), "--out", run, folder=run)
    verify(run / "rounds" / "001" / "aligned")


def test_alignment_without_votes_says_how_to_get_them(recipe: Path, stable: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stable.finish("instruct", written_recipe(recipe, tmp_path), "--out", run, folder=run)
    ended = stable.start("align", run, folder=run)
    assert ended.code == 2
    assert f"nobody has voted yet; vote with `trivium vote {run}`" in " ".join(ended.said.split())


def test_a_round_of_people_alone_waits_for_their_votes_and_settles_on_them(
    finished: Path, stable: Any, tmp_path: Path
) -> None:
    """Refused while nobody has voted, it is not begun: the votes that come then are its votes."""
    run = Run(tmp_path / "run")
    shutil.copytree(finished, run.path)
    command = ("align", run.path, "--round", "--votes.no-simulated", "--align.steps", "2")
    refused = stable.start(*command, folder=run.path)
    assert refused.code == 2
    assert "nobody has voted yet" in refused.said
    assert [round.number for round in run.rounds()] == [1]
    with Store.open(run.feedback) as store:
        said = [(f"Say {i}", f"Gladly: {i}.", f"No {i}!") for i in range(30)]
        ids = store.add_pairs(NewPair((Message("user", prompt),), good, bad, 2) for prompt, good, bad in said)
        rater = store.add_rater("ada").id
        store.add_votes(NewVote(pair, rater, "first", f"k{pair}") for pair in ids)
        cast = store.cast_by_people()
    stable.finish(*command, folder=run.path)
    assert set(json.loads((run.round(2).path / "votes.json").read_text())["votes"]) == cast


def test_nothing_learns_from_a_reward_model_that_nobody_can_trust(finished: Path, stable: Any, tmp_path: Path) -> None:
    """A refusal with figures and a remedy; the reward model and its report stay, and the rest is examined."""
    run = Run(tmp_path / "run")
    shutil.copytree(finished, run.path)
    ended = stable.start("run", run.path, "--round", "--votes.pairs", "20", "--align.gate", folder=run.path)
    assert ended.code == 2
    said = " ".join(ended.said.split())
    refused = rf"RewardError: {re.escape(str(run.round(2).reward))}: it agrees with [01]\.\d{{3}} "
    refused += r"\(0\.[0-4]\d\d to [01]\.\d{3}\) of \d+ held-out votes, which is not surely better than chance"
    assert re.search(refused, said), said
    assert f"vote more (`trivium vote {run.path}`" in said
    assert "set align.gate = false" in said
    verify(run.round(2).reward)
    assert not run.round(2).aligned.exists()
    assert json.loads((run.path / "measures.json").read_text())["votes"]["round"] == 1
    again = stable.start("align", run.path, folder=run.path)
    assert again.code == 2
    more = stable.start("run", run.path, "--round", folder=run.path)  # as it said: other votes, another reward model
    assert f"{run.round(3).reward}: it agrees with" in " ".join(more.said.split())
    told = stable.finish("run", run.path, "--round", "--align.no-gate", folder=run.path)
    assert "Learned from all the same, as align.gate = false says" in " ".join(told.said.split())
    assert [round.number for round in run.rounds() if round.aligned.exists()] == [1, 3]
    assert json.loads((run.round(3).path / "votes.json").read_text())["start"] == "rounds/001/aligned"


def test_where_a_demonstration_learned_nothing_from_votes_the_judge_votes_once_more(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    short, run = tmp_path / "short.toml", Run(tmp_path / "run")
    short.write_text(recipe.read_text().replace("gate = false\n", ""))
    monkeypatch.setattr(trust, "is_better", lambda _: False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(short), "--minutes", "0.1", "--out", str(run.path)])
    assert ended.value.code == 2
    said = " ".join("".join(capfd.readouterr()).split())
    assert said.count("The simulated judge votes on as many pairs again") == 1
    assert [round.number for round in run.rounds()] == [1, 2]
    first, second = (json.loads((round.path / "votes.json").read_text())["votes"] for round in run.rounds())
    assert len(second) == 2 * len(first)
    assert f"RewardError: {run.round(2).reward}: it agrees with" in said


def test_a_judge_that_does_not_answer_is_no_reason_to_vote_again(recipe: Path, stable: Any, tmp_path: Path) -> None:
    short, run = tmp_path / "short.toml", Run(tmp_path / "run")
    short.write_text(recipe.read_text().replace("gate = false\n", 'rewards = ["judge http://127.0.0.1:9/v1 m"]\n'))
    ended = stable.start("run", short, "--minutes", "0.1", "--out", run.path, folder=run.path)
    assert ended.code == 2
    assert "RewardError: judge http://127.0.0.1:9/v1: no answer" in " ".join(ended.said.split())
    assert "votes on as many pairs again" not in ended.said
    assert [round.number for round in run.rounds()] in ([], [1])


def test_the_report_says_what_more_votes_would_buy_and_how_sure_it_is(finished: Path) -> None:
    report = json.loads((finished / "rounds" / "001" / "reward" / "report.json").read_text())
    curve = report["curve"]
    assert curve["votes"] > 1
    assert curve["gain_low"] <= curve["gain"] <= curve["gain_high"]
    assert report["accuracy"] - curve["half_accuracy"] == pytest.approx(curve["gain"])
    assert 1 / 20 <= report["temperature"] <= 20


def test_rules_alone_need_no_votes_and_no_reward_model(recipe: Path, stable: Any, tmp_path: Path) -> None:
    """And the answers that the dialogues expect are known to the rules."""
    run = Run(tmp_path / "run")
    (tmp_path / "my_rules.py").write_text("def score(asked, said):\n    return -len(said)\n")
    told = ("--align.rewards", "0.1 * function my_rules.py:score", "--align.rewards", "exact")
    stable.finish("run", written_recipe(recipe, tmp_path), "--out", run.path, *told, folder=run.path)
    verify(run.round(1).aligned)
    assert not run.round(1).reward.exists()
    assert not run.feedback.exists()
    assert reference_in(run.path) == run.instruct
    with look_into(run.path, flags={}) as teller:
        measured = measuring_questions(teller)
    assert len(measured) > 1
    assert all(re.fullmatch(r"It is \d+\.", question.expected[0]) for question in measured)
    assert read_lineage(run.round(1).aligned).votes is None
    rewards = [json.loads(line).get("metrics", {}).get("reward") for line in run.journal.read_text().splitlines()]
    assert min(reward for reward in rewards if reward is not None) < 0
    stable.finish("report", run.path, folder=run.path)


def test_a_reward_that_cannot_be_found_is_told_before_anything_is_learned(
    recipe: Path, stable: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = ("--align.rewards", "function my_rules.py:scroe")
    ended = stable.start("run", written_recipe(recipe, tmp_path), "--out", run, *told, folder=run)
    assert ended.code == 2
    assert '"function my_rules.py:scroe" cannot be loaded' in " ".join(ended.said.split())
    assert not (run / "base").exists()


def test_labelled_answers_teach_but_for_those_to_prompts_whose_votes_measure(tmp_path: Path) -> None:
    pairs = [labelled(f"Say {i}", i) for i in range(60)]
    train, held_out = part(pairs, 0.15)
    rows = [{"prompt": f"say  {i}", "completion": f"Gladly: {i}.", "label": i % 2 == 0} for i in range(60)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = resolve({"data": {"folder": str(tmp_path)}, "reward": {"labels": ["labels.jsonl"]}})
    found = {label.prompt[0].content.replace("say  ", "Say ") for label in labelled_answers(recipe, held_out)}
    assert held_out
    assert found == {pair.prompt[0].content for pair in train}


def test_labelled_answers_change_what_a_round_learns(finished: Path, stable: Any, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}", "completion": f"Gladly: {i}.", "label": i % 2 == 0} for i in range(12)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prints = set()
    for told in ((), ("--reward.labels", tmp_path / "labels.jsonl")):
        run = Run(tmp_path / f"run{len(told)}")
        shutil.copytree(finished, run.path)
        shutil.rmtree(run.round(1).path)
        stable.finish("reward", run.path, *told, folder=run.path)
        prints.add(file_fingerprint(run.round(1).reward, "model.safetensors"))
    assert len(prints) == 2
