"""What a run has reached, measured on held-out data: one object, the same for the terminal, the report and --json."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from trivium.compute import Compute
from trivium.config import Recipe, Settings
from trivium.evaluate.bits import document_batches, surprise
from trivium.evaluate.blanks import blank_accuracy
from trivium.evaluate.formats import keeps_formats
from trivium.evaluate.measures import Measures, models_in
from trivium.evaluate.preference import best_of_kl, compare, drift, golden, nearest_count
from trivium.evaluate.tasks import ROOM, mark, prompt_ids
from trivium.lineage import LINEAGE, read_lineage
from trivium.model.transformer import Transformer
from trivium.phases import instruct
from trivium.phases.align.examine import best_replies, blind_replies, golden_of
from trivium.phases.align.questions import Question
from trivium.phases.align.rollout import Writers
from trivium.phases.align.rules import read_rules
from trivium.records import Dialogue
from trivium.runs import Round, Run
from trivium.shelf import is_done, open_model, stands
from trivium.show import Show
from trivium.story.collecting import has_judge
from trivium.story.opening import look_at, look_into
from trivium.story.rounds import measuring_questions
from trivium.story.stages import encode_whole
from trivium.story.teller import Teller
from trivium.story.trusting import scorer_of
from trivium.text.answers import read_dialogues
from trivium.text.blanks import Blank, held_out_blanks
from trivium.text.schemas import Say, quiet
from trivium.text.split import evenly
from trivium.text.tokenizer import Tokenizer

LONGEST_ROW = 2048  # tokens of text that are read at once, however long the context is


class Exam(NamedTuple):
    """The held-out questions, the same for every model of a run."""

    documents: list[NDArray[Any]]
    blanks: list[Blank]
    instructions: list[Dialogue]
    dialogues: Sequence[Dialogue]
    questions: list[Question]
    room: int  # tokens of an answer at least


def room_of(recipe: Recipe) -> int:
    """As many tokens as an aligned model has been taught to need."""
    return max(ROOM, recipe.align.max_new_tokens)


def prepare_exam(teller: Teller, tokenizer: Tokenizer) -> Exam:
    recipe, sizes = teller.recipe, teller.recipe.evaluate
    texts = teller.documents()
    warn_of_others(teller, texts.train.fingerprint)
    documents = evenly(texts.held_out, sizes.documents)
    dialogues = teller.dialogues().held_out
    return Exam(
        documents=encode_whole(tokenizer, documents),
        blanks=held_out_blanks([document.text for document in documents], recipe.seed, sizes.blanks),
        instructions=evenly(instruct.checkable(dialogues), sizes.instructions),
        dialogues=evenly(dialogues, sizes.instructions),
        questions=measuring_questions(teller),
        room=room_of(recipe),
    )


def warn_of_others(teller: Teller, fingerprint: str) -> None:
    """Where base has learned from other texts than there are now, some that are held out may be no news to it."""
    base = teller.run.base
    taught = read_lineage(base).data if stands(base) else {}
    if taught and fingerprint not in taught.values():
        teller.show.warn("the texts are not those that base has learned from: it may know what is held out now")


def measure_run(teller: Teller, questions: Sequence[Dialogue] = (), *, say: Say = quiet) -> Measures:
    """Everything that this run's models can be asked, in float32.

    questions  further ones, beside the run's own
    say        is told the name of each model when its turn comes
    """
    run = teller.run
    compute = Compute(teller.compute.device, torch.float32, False)
    rounds = aligned_rounds(run)
    found: Measures = {}
    exam: Exam | None = None
    models: dict[str, Transformer] = {}
    for name, folder in models_of(run).items():
        if not is_done(folder):
            continue
        say(f"  {name}")
        model, tokenizer = open_model(folder, device=compute.device)
        exam = exam or prepare_exam(teller, tokenizer)
        models[name] = model
        found[name] = measure_language(model, tokenizer, exam, compute)
        found[name] |= measure_answers(model, tokenizer, questions, exam.room)
        if name == "instruct":
            found[name]["loss"] = instruct.held_out_loss(model, tokenizer, exam.dialogues, teller.recipe, compute)
        if name not in ("base", "instruct"):
            found[name] |= measure_preference(model, models["instruct"], tokenizer, exam, teller.recipe)
        if name == "aligned":
            found |= measure_best_of(teller, rounds[-1], models["instruct"], tokenizer, exam, kl=found[name]["kl"])
    found["changes"] = changes(found)
    if rounds and rounds[-1].reward_report.exists():
        found["reward"] = json.loads(rounds[-1].reward_report.read_text())
        found["votes"] = {"simulated": has_judge(teller) and teller.recipe.votes.simulated, "round": rounds[-1].number}
    return found


def aligned_rounds(run: Run) -> list[Round]:
    return [round for round in run.rounds() if stands(round.aligned)]


def models_of(run: Run) -> dict[str, Path]:
    """Where the models of a run lie, or will, by the names that they are measured under."""
    rounds = aligned_rounds(run)
    names = {f"round-{round.number}": round.aligned for round in rounds[:-1]}
    last = {"aligned": rounds[-1].aligned} if rounds else {}
    return {"base": run.base, "instruct": run.instruct} | names | last


def measure_language(model: Transformer, tokenizer: Tokenizer, exam: Exam, compute: Compute) -> Measures:
    """Bits per byte, blanks and instructions, all held out."""
    row_length = min(model.config.context_length, LONGEST_ROW)
    batches = document_batches(exam.documents, tokenizer, row_length=row_length)
    marks = mark(model, tokenizer, exam.instructions, room=exam.room)
    filled = {"blank_accuracy": blank_accuracy(model, tokenizer, exam.blanks)} if exam.blanks else {}
    return filled | {
        "bits_per_byte": surprise(model, batches, tokenizer, compute).bits_per_byte,
        "instruction_accuracy": marks.exact,
        "instruction_f1": marks.f1,
        "instructions_ended": marks.ended,
        "by_kind": marks.by_kind,
    }


def measure_answers(model: Transformer, tokenizer: Tokenizer, questions: Sequence[Dialogue], room: int) -> Measures:
    """What needs no data of the model's own: formats that a program can check, and questions from a file.

    room  tokens of an answer at least
    """
    kept = keeps_formats(model, tokenizer, room=room)
    found: Measures = {"format_accuracy": kept.share, "formats_ended": kept.ended, "by_format": kept.by_check}
    if questions:
        marks = mark(model, tokenizer, questions, room=room)
        found["questions"] = {"exact_match": marks.exact, "f1": marks.f1, "ended": marks.ended, "count": len(questions)}
    return found


def measure_model(teller: Teller, folder: Path, questions: Sequence[Dialogue], *, language: bool) -> Measures:
    """The same of one model alone, in float32.

    language  whether there is data to measure language and instructions on
    """
    compute = Compute(teller.compute.device, torch.float32, False)
    model, tokenizer = open_model(folder, device=compute.device)
    found: Measures = {"model": str(folder)}
    if language:
        found |= measure_language(model, tokenizer, prepare_exam(teller, tokenizer), compute)
    return found | measure_answers(model, tokenizer, questions, room_of(teller.recipe))


# What is compared before and after each phase: name, title, and whether more is better
COMPARED = (
    ("bits_per_byte", "bits per byte", False),
    ("blank_accuracy", "blanks filled", True),
    ("instruction_accuracy", "instructions, exact match", True),
    ("instruction_f1", "instructions, F1", True),
    ("instructions_ended", "answers that end", True),
    ("format_accuracy", "formats kept", True),
    ("exact_match", "questions, exact match", True),
    ("f1", "questions, F1", True),
)


def measured(here: Measures) -> dict[str, float]:
    """The single figures of a model, by name."""
    whole = here | {name: here["questions"][name] for name in ("exact_match", "f1") if "questions" in here}
    return {name: whole[name] for name, _, _ in COMPARED if name in whole}


def changes(found: Measures) -> Measures:
    """After each phase but the first, what every figure became less what it was before: so forgetting is seen."""
    names = models_in(found)
    pairs = [(measured(found[one]), measured(found[two]), two) for one, two in itertools.pairwise(names)]
    return {after: {name: its[name] - was[name] for name in its} for was, its, after in pairs}


def change_rows(found: Measures) -> tuple[list[str], list[list[str]]]:
    """A figure per row, a model per column, each with what its phase changed."""
    names = models_in(found)
    moved = changes(found)
    rows = []
    for key, title, more_is_better in COMPARED:
        if key not in measured(found[names[0]]):
            continue
        cells = []
        for name in names:
            change = moved.get(name, {}).get(key, 0.0)
            worse = change and (change > 0) is not more_is_better
            told = "" if name == names[0] else f" ({_figure(key, change, sign='+')}{', worse' if worse else ''})"
            cells.append(_figure(key, measured(found[name])[key]) + told)
        rows.append([title, *cells])
    return ["", *names], rows


def _figure(key: str, value: float, *, sign: str = "") -> str:
    return format(value, f"{sign}.3f" if key == "bits_per_byte" else f"{sign}.1%")


def model_rows(found: Measures) -> tuple[list[str], list[list[str]]]:
    """One model's figures, and each format."""
    here, formats = measured(found), [[f"  {name}", f"{share:.0%}"] for name, share in found["by_format"].items()]
    rows = []
    for key, title, _ in COMPARED:
        if key in here:
            rows += [[title, _figure(key, here[key])], *(formats if key == "format_accuracy" else [])]
    return ["", "measured"], rows


def measure_preference(
    aligned: Transformer, instructed: Transformer, tokenizer: Tokenizer, exam: Exam, recipe: Recipe
) -> Measures:
    """Blind comparisons with instruct, KL to it, and length; the win rate is None where no judge knows the truth."""
    asked = exam.questions
    ours = blind_replies(aligned, tokenizer, asked, recipe.seed, max_new_tokens=recipe.align.max_new_tokens)
    theirs = blind_replies(instructed, tokenizer, asked, recipe.seed, max_new_tokens=recipe.align.max_new_tokens)
    prompts = prompt_ids(aligned, tokenizer, [question.prompt for question in asked])
    golds = [question.gold for question in asked if question.gold is not None]
    judged = len(golds) == len(asked)
    won = compare(golden(golds, ours), golden(golds, theirs)) if judged else None
    return {
        "win_rate": won.rate if won else None,
        "win_rate_low": won.low if won else None,
        "win_rate_high": won.high if won else None,
        "comparisons": len(asked) if judged else 0,
        "kl": drift(aligned, instructed, prompts, ours, tokenizer.pad).kl,
        "mean_length": sum(len(reply.tokens) for reply in ours) / len(ours),
        "instruct_mean_length": sum(len(reply.tokens) for reply in theirs) / len(theirs),
        "ended": sum(reply.ended for reply in ours) / len(ours),
        "distinct": len({reply.text for reply in ours}) / len(ours),
    }


def measure_best_of(
    teller: Teller, round: Round, instructed: Transformer, tokenizer: Tokenizer, exam: Exam, *, kl: float
) -> Measures:
    """What the best of several of instruct's answers, by the same reward, would have won: the baseline to beat.

    kl  of the aligned model, to which as many answers are taken as come nearest; nothing where no judge knows the truth
    """
    recipe = teller.recipe
    asked = [question for question in exam.questions if question.gold]
    count = nearest_count(kl, recipe.evaluate.best_of) if recipe.evaluate.best_of else 0
    if count < 2 or not asked or recipe.align.algorithm == "dpo":  # which needs no reward
        return {}
    rules = read_rules(recipe.align.rewards, Path(recipe.data.folder))
    scorer = scorer_of(round, recipe.reward, teller.compute) if recipe.align.uses_model else None
    ours = best_replies(Writers(instructed, instructed, scorer, tokenizer, rules), asked, recipe, count)
    theirs = blind_replies(instructed, tokenizer, asked, recipe.seed, max_new_tokens=recipe.align.max_new_tokens)
    won = compare(golden_of(asked, ours), golden_of(asked, theirs))
    return {
        "best_of": {
            "count": count,
            "kl": best_of_kl(count),
            "win_rate": won.rate,
            "win_rate_low": won.low,
            "win_rate_high": won.high,
            "mean_length": sum(len(reply.tokens) for reply in ours) / len(ours),
        }
    }


def table_rows(found: Measures) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: a model per row."""
    names = ["", "bits/byte", "blanks", "instructions", "win rate (95 %)", "KL, nats", "length"]
    rows = []
    for name in models_in(found):
        here = found[name]
        preferred = "win_rate" in here
        rows.append(
            [
                name,
                f"{here['bits_per_byte']:.3f}",
                f"{here['blank_accuracy']:.1%}" if "blank_accuracy" in here else "",
                f"{here['instruction_accuracy']:.1%}",
                _interval(here) if preferred else "",
                f"{here['kl']:.2f}" if preferred else "",
                f"{here['mean_length']:.1f}" if preferred else "",
            ]
        )
    if best := found.get("best_of"):
        told = [_interval(best), f"{best['kl']:.2f}", f"{best['mean_length']:.1f}"]
        rows.append([f"best of {best['count']}", "", "", "", *told])
    return names, rows


def _interval(here: Measures) -> str:
    if here["win_rate"] is None:
        return "no judge"
    return f"{here['win_rate']:.1%} ({here['win_rate_low']:.1%} to {here['win_rate_high']:.1%})"


def by_kind_rows(found: Measures) -> tuple[list[str], list[list[str]]]:
    """Instructions by kind, a model per column."""
    return _share_rows(found, "by_kind", "instruction")


def by_format_rows(found: Measures) -> tuple[list[str], list[list[str]]]:
    """Formats kept, likewise."""
    return _share_rows(found, "by_format", "format")


def _share_rows(found: Measures, key: str, title: str) -> tuple[list[str], list[list[str]]]:
    models = models_in(found)
    kinds = sorted({kind for name in models for kind in found[name][key]})
    rows = [[kind, *(f"{found[name][key].get(kind, 0):.0%}" for name in models)] for kind in kinds]
    return [title, *models], rows


def evaluate_run(path: Path, questions: Path | None, *, flags: Settings) -> Measures:
    """What `trivium evaluate RUN` finds."""
    asked = read_questions(questions)
    with look_into(path, flags=flags) as teller:
        teller.show.say("measuring, one model after the other:")
        return measure_run(teller, asked, say=teller.show.say)


def evaluate_model(folder: Path, questions: Path | None, *, flags: Settings) -> Measures:
    """What `trivium evaluate MODEL` finds: on the data that it learned from, or that the flags name; else without."""
    asked = read_questions(questions)
    with look_at(folder, flags=flags) as teller:
        lineage = read_lineage(folder) if (folder / LINEAGE).exists() else None
        knows_data = lineage is not None and bool(lineage.data or lineage.votes)
        return measure_model(teller, folder, asked, language=knows_data or "data" in flags)


def read_questions(path: Path | None) -> list[Dialogue]:
    """Questions with their accepted answers, in any schema of dialogues; raises DataError, ConfigError as those do."""
    return list(read_dialogues([str(path)], field="--questions")) if path else []


def print_measures(found: Measures) -> None:
    show = Show(stderr=False)
    if "model" in found:
        show.table(found["model"], *model_rows(found))
        return
    show.table("Held-out measures", *table_rows(found))
    show.table("Before and after each phase", *change_rows(found))
    show.table("Instructions by kind", *by_kind_rows(found))
    show.table("Formats kept", *by_format_rows(found))
