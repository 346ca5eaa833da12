"""What a run has reached, measured on held-out data: one object, the same for the terminal, the report and --json."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from trivium.compute import Compute
from trivium.config import Recipe
from trivium.evaluate.bits import document_batches, surprise
from trivium.evaluate.blanks import blank_accuracy
from trivium.evaluate.preference import compare, golden, kl_to_reference
from trivium.evaluate.tasks import instruction_accuracy, prompt_ids
from trivium.model.transformer import Transformer
from trivium.phases import instruct
from trivium.phases.align.policy import blind_replies
from trivium.phases.align.questions import Question
from trivium.records import Dialogue
from trivium.shelf import is_done, open_model
from trivium.story.rounds import has_judge, measuring_questions
from trivium.story.stages import encode_whole
from trivium.story.teller import Teller
from trivium.text.blanks import Blank, held_out_blanks
from trivium.text.tokenizer import Tokenizer

Measures = dict[str, Any]


class Exam(NamedTuple):
    """The held-out questions, the same for every model of a run."""

    documents: list[NDArray[Any]]
    blanks: list[Blank]
    instructions: list[Dialogue]
    dialogues: list[Dialogue]
    questions: list[Question]


def prepare_exam(teller: Teller, tokenizer: Tokenizer) -> Exam:
    recipe, sizes = teller.recipe, teller.recipe.evaluate
    documents = teller.documents().held_out[: sizes.documents]
    dialogues = teller.dialogues().held_out
    return Exam(
        documents=encode_whole(tokenizer, documents),
        blanks=held_out_blanks([document.text for document in documents], recipe.seed, sizes.blanks),
        instructions=instruct.checkable(dialogues)[: sizes.instructions],
        dialogues=dialogues[: sizes.instructions],
        questions=measuring_questions(teller),
    )


def measure_run(teller: Teller) -> Measures:
    """Everything that this run's models can be asked, in float32."""
    run = teller.run
    compute = Compute(teller.compute.device, torch.float32, False)
    folders = {"base": run.base, "instruct": run.instruct}
    rounds = [round for round in run.rounds() if is_done(round.aligned)]
    if rounds:
        folders["aligned"] = rounds[-1].aligned
    found: Measures = {}
    exam: Exam | None = None
    models: dict[str, Transformer] = {}
    for name, folder in folders.items():
        if not is_done(folder):
            continue
        model, tokenizer = open_model(folder, device=compute.device)
        exam = exam or prepare_exam(teller, tokenizer)
        models[name] = model
        found[name] = measure_language(model, tokenizer, exam, compute)
        if name == "instruct":
            found[name]["loss"] = instruct.held_out_loss(model, tokenizer, exam.dialogues, teller.recipe, compute)
        if name == "aligned":
            found[name] |= measure_preference(model, models["instruct"], tokenizer, exam, teller.recipe)
    if rounds and rounds[-1].reward_report.exists():
        found["reward"] = json.loads(rounds[-1].reward_report.read_text())
        found["votes"] = {"simulated": has_judge(teller) and teller.recipe.votes.simulated, "round": rounds[-1].number}
    return found


def measure_language(model: Transformer, tokenizer: Tokenizer, exam: Exam, compute: Compute) -> Measures:
    """Bits per byte, blanks and instructions, all held out."""
    batches = document_batches(exam.documents, tokenizer, row_length=model.config.context_length)
    accuracy, by_kind = instruction_accuracy(model, tokenizer, exam.instructions)
    return {
        "bits_per_byte": surprise(model, batches, tokenizer, compute).bits_per_byte,
        "blank_accuracy": blank_accuracy(model, tokenizer, exam.blanks),
        "instruction_accuracy": accuracy,
        "by_kind": by_kind,
    }


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
        "kl": kl_to_reference(aligned, instructed, prompts, ours, tokenizer.pad),
        "mean_length": sum(len(reply.tokens) for reply in ours) / len(ours),
        "instruct_mean_length": sum(len(reply.tokens) for reply in theirs) / len(theirs),
        "ended": sum(reply.ended for reply in ours) / len(ours),
        "distinct": len({reply.text for reply in ours}) / len(ours),
    }


def table_rows(found: Measures) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: a model per row."""
    names = ["", "bits/byte", "blanks", "instructions", "win rate (95 %)", "KL, nats", "length"]
    rows = []
    for name in ("base", "instruct", "aligned"):
        if name not in found:
            continue
        here = found[name]
        rows.append(
            [
                name,
                f"{here['bits_per_byte']:.3f}",
                f"{here['blank_accuracy']:.1%}",
                f"{here['instruction_accuracy']:.1%}",
                _interval(here) if name == "aligned" else "",
                f"{here['kl']:.2f}" if name == "aligned" else "",
                f"{here['mean_length']:.1f}" if name == "aligned" else "",
            ]
        )
    return names, rows


def _interval(here: Measures) -> str:
    if here["win_rate"] is None:
        return "no judge"
    return f"{here['win_rate']:.1%} ({here['win_rate_low']:.1%} to {here['win_rate_high']:.1%})"


def by_kind_rows(found: Measures) -> tuple[list[str], list[list[str]]]:
    """Instructions by kind, a model per column."""
    models: Sequence[str] = [name for name in ("base", "instruct", "aligned") if name in found]
    kinds = sorted({kind for name in models for kind in found[name]["by_kind"]})
    rows = [[kind, *(f"{found[name]['by_kind'].get(kind, 0):.0%}" for name in models)] for kind in kinds]
    return ["instruction", *models], rows
