"""Phases I and II as stages of a run: text → base → instruct. A stage that is done is not done again."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trivium import plan
from trivium.batch import TokenBatch
from trivium.config import Recipe
from trivium.distributed.shard import shard as spread
from trivium.distributed.shard import whole_model
from trivium.errors import ConfigError, DataError
from trivium.evaluate.tasks import reply_to
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling, stream_seed
from trivium.lineage import read_lineage
from trivium.model.transformer import Transformer, adapt
from trivium.phases import instruct, pretrain
from trivium.publish import publish, write_text
from trivium.records import Dialogue, Document
from trivium.shelf import Parent, is_done, open_model, parent_at
from trivium.story.start import first_model, longest_of
from trivium.story.teller import Teller, fingerprint_texts, name_data
from trivium.text.adoption import adopt
from trivium.text.corpus import has_world, too_few
from trivium.text.documents import Corpus, Documents
from trivium.text.packing import PackedRows, RowOf, mixed
from trivium.text.schemas import Progress, Say, quiet, unseen
from trivium.text.shards import Shard
from trivium.text.shards import write as write_shard
from trivium.text.split import Split, evenly
from trivium.text.tokenizer import Tokenizer
from trivium.text.tokenizer import train as train_tokenizer
from trivium.train.phase import Phase
from trivium.wording import counted

TOKENIZER_BYTES = 5_000_000  # of text are enough to learn a vocabulary from
SAMPLING = Sampling(temperature=0.7, max_new_tokens=80)  # of what is shown to people
SHOWN_PROMPTS = 6


def make_base(teller: Teller) -> Path:
    """Text → base."""
    run, recipe = teller.run, teller.recipe
    if teller.is_done(run.base, "pretrain"):
        return run.base
    teller.show.heading("I. Pretrain", "text with words missing: the next one, and blanks in the middle")
    documents = teller.documents(teller.show.say)
    check_texts(documents)
    teller.hold_to("pretrain", "data.text", documents.train.fingerprint)
    tokenizer = _tokenizer(teller, documents.train)
    shard = token_shard(teller, documents.train, tokenizer)
    held_out = encode_whole(tokenizer, evenly(documents.held_out, recipe.evaluate.documents))
    _tell_text(teller, shard, tokenizer, len(documents.held_out))

    def build(model: Transformer) -> Phase[TokenBatch]:
        return pretrain.build(
            teller.recipe, model, tokenizer, shard, held_out, teller.objective, teller.compute, teller.world
        )

    model = beginning(teller, teller.recipe, shard)
    teller.settle_steps("pretrain", build, model)
    if teller.dial and teller.is_open("pretrain.echo_steps"):
        recipe = teller.recipe
        echoes = plan.choose_echoes(recipe.pretrain.steps, world=has_world(recipe.data, "text"))
        teller.settle("pretrain.echo_steps", echoes)
    spread(model, teller.world)
    opening = beginnings(documents.held_out)[0]
    metrics = teller.train(
        build,
        model,
        sample=lambda: teller.show.quote(opening, continue_text(model, tokenizer, [opening])[0].removeprefix(opening)),
    )
    model = whole_model(model, teller.world)
    keep_samples(teller, "base", model, tokenizer, documents.held_out)
    teller.publish(
        run.base,
        model,
        tokenizer,
        phase="pretrain",
        parent=Parent(recipe.start.folder, recipe.start.weights) if recipe.start.folder else None,
        data=name_data(recipe.data.text, documents.train.fingerprint),
        votes=None,
        metrics=metrics,
    )
    return run.base


def check_texts(found: Corpus | Split[Document]) -> None:
    """raises  DataError when phase I has nothing to learn from, or nothing to measure on"""
    _check_sides("text", "document", len(found.train), len(found.held_out))


def check_dialogues(found: Split[Dialogue]) -> None:
    """raises  DataError when phase II has nothing to learn from, or nothing to measure on"""
    _check_sides("answers", "dialogue", len(found.train), len(found.held_out))


def _check_sides(field: str, noun: str, learned: int, held_out: int) -> None:
    if not learned or not held_out:
        raise DataError(too_few(field, noun, learned=learned, held_out=held_out))


def take_base(teller: Teller) -> Path:
    """The folder that the run starts from, as base: phase I is not taught; unless it was begun, then it goes on."""
    run, start = teller.run, teller.recipe.start
    if not start.folder or run.state("pretrain").exists() or teller.is_done(run.base, "pretrain"):
        return make_base(teller)
    teller.show.say(f"  base is {start.folder}, as it is")
    tokenizer, model = _tokenizer(teller, None), first_model(teller.recipe)
    parent = Parent(start.folder, start.weights)
    teller.publish(run.base, model, tokenizer, phase="import", parent=parent, data={}, votes=None, metrics={})
    return run.base


def take_instruct(teller: Teller) -> Path:
    """The same folder as instruct, for phase III alone; in a run that has taught the phases before, what they made."""
    run = teller.run
    if not teller.recipe.start.folder or run.state("instruct").exists() or teller.is_done(run.instruct, "instruct"):
        return run.instruct
    is_taught = is_done(run.base) and bool(read_lineage(run.base).data)
    if is_taught or run.state("pretrain").exists():
        return run.instruct
    take_base(teller)
    model, tokenizer = open_model(run.base, device=teller.compute.device)
    keep_answers(teller, "instruct", model, tokenizer, teller.dialogues().held_out)
    teller.publish(
        run.instruct, model, tokenizer, phase="import", parent=parent_at(run.base), data={}, votes=None, metrics={}
    )
    return run.instruct


def beginning(teller: Teller, recipe: Recipe, shard: Shard) -> Transformer:
    """The model before the first step of phase I: fresh, or of the folder that the recipe starts from."""
    if recipe.start.folder:
        return first_model(recipe).to(teller.compute.device)
    return pretrain.fresh(recipe, shard, teller.compute, teller.world)


def _tokenizer(teller: Teller, documents: Documents | None) -> Tokenizer:
    """The run's vocabulary: that of the folder it starts from, else learned from the text unless it already was."""
    folder, start = teller.run.tokenizer, teller.recipe.start.folder
    if not is_done(folder):
        if start:
            chosen = adopt(Path(start)).tokenizer
        else:
            assert documents is not None
            some = documents[:: -(-documents.size // TOKENIZER_BYTES)]  # from all over
            chosen = train_tokenizer((d.text for d in some), vocab_size=teller.recipe.model.vocab_size)
        if teller.world.first:
            publish(folder, lambda fresh: chosen.save(fresh, context_length=teller.recipe.model.context_length))
        teller.world.barrier()
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size != teller.recipe.model.vocab_size and not start:
        if not teller.is_open("model.vocab_size"):
            raise ConfigError(
                f"model.vocab_size = {teller.recipe.model.vocab_size}: the text gives only {tokenizer.vocab_size} "
                "different tokens; give more text, or set it to that"
            )
        teller.show.say(
            f"  the text gives a vocabulary of {tokenizer.vocab_size}, not {teller.recipe.model.vocab_size}; "
            "model.vocab_size follows it"
        )
        teller.settle("model.vocab_size", tokenizer.vocab_size)
    return tokenizer


def token_shard(teller: Teller, documents: Documents, tokenizer: Tokenizer) -> Shard:
    """The encoded texts; the first rank writes them, the others wait and open them."""

    def write(say: Say, progress: Progress) -> Shard:
        return write_shard(
            (document.text for document in documents),
            tokenizer,
            teller.run.cache / "shards",
            key=documents.fingerprint,
            weights=documents.weights,
            size=documents.size,
            say=say,
            progress=progress,
        )

    if teller.world.first:
        with teller.show.watching() as progress:
            write(lambda line: teller.show.say(f"  {line}"), progress)
    teller.world.barrier()
    return write(quiet, unseen)


def _tell_text(teller: Teller, shard: Shard, tokenizer: Tokenizer, held_out: int) -> None:
    shape = teller.recipe.model
    teller.show.say(
        f"  {counted(len(shard), 'document')}, {counted(int(shard.lengths.sum()), 'token')} "
        f"of {tokenizer.vocab_size:,} kinds; "
        f"{counted(held_out, 'document')} held out"
    )
    teller.show.say(
        f"  {shape.parameters:,} parameters: {counted(shape.num_layers, 'layer')}, width {shape.width}, "
        f"{counted(shape.num_heads, 'head')}, "
        f"context {shape.context_length} tokens; {str(teller.compute.dtype).removeprefix('torch.')}"
    )
    if (longest := longest_of(teller.recipe)) > shape.context_length:
        told = f"{teller.recipe.start.folder} reads up to {longest:,} tokens"
        teller.show.say(f"  {told}: --model.context-length keeps more of them, for more memory and time")


def make_instruct(teller: Teller) -> Path:
    """Base → instruct."""
    run, recipe = teller.run, teller.recipe
    if teller.is_done(run.instruct, "instruct"):
        return run.instruct
    teller.show.heading("II. Instruct", "instructions and their expected answers")
    model, tokenizer = open_model(run.base, device=teller.compute.device)
    records = teller.dialogues(teller.show.say)
    check_dialogues(records)
    learned = fingerprint_texts([*map(str, records.train), *_mixed_in(teller).values()])
    teller.hold_to("instruct", "data.answers or data.text", learned)
    rows = dialogue_rows(teller, tokenizer, records.train)
    teller.show.say(f"  {counted(len(records.train), 'dialogue')} in {counted(rows.rows_per_epoch(0), 'row')}")
    row = with_text(teller, tokenizer, rows)

    def build(model: Transformer) -> Phase[TokenBatch]:
        return instruct.build(
            teller.recipe, model, tokenizer, row, records.held_out, teller.objective, teller.compute, teller.world
        )

    if rank := recipe.instruct.lora_rank:
        adapt(model, rank=rank, alpha=recipe.instruct.lora_alpha, seed=recipe.seed)
        small = sum(each.numel() for each in model.parameters() if each.requires_grad)
        teller.show.say(f"  adapters of rank {rank}: {small:,} of {model.config.parameters:,} parameters are trained")
    teller.settle_steps("instruct", build, model)
    spread(model, teller.world)
    asked = records.held_out[0]
    metrics = teller.train(
        build,
        model,
        sample=lambda: teller.show.quote(
            asked.prompt[-1].content, answer(whole_model(model, teller.world), tokenizer, [asked])[0]
        ),
    )
    model = whole_model(model, teller.world)
    before = open_model(run.base, device=teller.compute.device).model
    for name, who in (("base", before), ("instruct", model)):
        keep_answers(teller, name, who, tokenizer, records.held_out)
    teller.publish(
        run.instruct,
        model,
        tokenizer,
        phase="instruct",
        parent=parent_at(run.base),
        data=name_data(recipe.data.answers, fingerprint_texts(d.answer for d in records.train)) | _mixed_in(teller),
        votes=None,
        metrics=metrics,
    )
    return run.instruct


def dialogue_rows(teller: Teller, tokenizer: Tokenizer, records: Sequence[Dialogue]) -> PackedRows:
    recipe = teller.recipe
    length, bad_rows = recipe.model.context_length, recipe.data.bad_rows
    return instruct.dialogue_rows(
        records, tokenizer, recipe.instruct, length, recipe.seed, teller.show.say, bad_rows=bad_rows
    )


def with_text(teller: Teller, tokenizer: Tokenizer, rows: PackedRows) -> RowOf:
    """The dialogues' rows with some of the text among them."""
    recipe = teller.recipe
    if not recipe.instruct.text:
        return rows.row
    shard = token_shard(teller, teller.documents().train, tokenizer)
    return mixed(rows.row, pretrain.text_rows(shard, tokenizer, recipe).row, recipe.instruct.text)


def _mixed_in(teller: Teller) -> dict[str, str]:
    """For the lineage: the text among the dialogues."""
    if not teller.recipe.instruct.text:
        return {}
    return {f"text among them: {', '.join(teller.recipe.data.text)}": teller.documents().train.fingerprint}


def encode_whole(tokenizer: Tokenizer, documents: Sequence[Document]) -> list[NDArray[np.int32]]:
    """Each document's ids, its end included."""
    return tokenizer.encode_documents([document.text for document in documents])


# What people are shown: the same few prompts, before and after each phase


def beginnings(documents: Sequence[Document], count: int = 3) -> list[str]:
    """The first words of some texts."""
    return [" ".join(document.text.split()[:6]) for document in documents[:count]]


@torch.no_grad()
def continue_text(model: Transformer, tokenizer: Tokenizer, openings: Sequence[str]) -> list[str]:
    """How the model goes on with each text."""
    requests = [
        Request([*tokenizer.opening, *tokenizer.encode(text)], stream_seed(6, i)) for i, text in enumerate(openings)
    ]
    answers = generate(model, requests, SAMPLING, stop=[tokenizer.end_of_text])
    return [opening + tokenizer.decode(found.tokens) for opening, found in zip(openings, answers, strict=True)]


def answer(model: Transformer, tokenizer: Tokenizer, dialogues: Sequence[Dialogue]) -> list[str]:
    """What the model answers in chat form."""
    seeds = [stream_seed(7, i) for i in range(len(dialogues))]
    return [reply.text for reply in reply_to(model, tokenizer, [d.prompt for d in dialogues], SAMPLING, seeds=seeds)]


def shown(held_out: Sequence[Dialogue]) -> list[Dialogue]:
    """A few held-out dialogues, each of another kind as far as there are."""
    by_kind: dict[str, Dialogue] = {}
    for i, dialogue in enumerate(held_out):
        by_kind.setdefault(dialogue.kind or str(i), dialogue)
        if len(by_kind) == SHOWN_PROMPTS:
            break
    return list(by_kind.values())


def keep_samples(
    teller: Teller, name: str, model: Transformer, tokenizer: Tokenizer, documents: Sequence[Document]
) -> None:
    openings = beginnings(documents)
    texts = continue_text(model, tokenizer, openings)
    _append(teller, [{"model": name, "prompt": o, "answer": t[len(o) :]} for o, t in zip(openings, texts, strict=True)])


def keep_answers(
    teller: Teller, name: str, model: Transformer, tokenizer: Tokenizer, held_out: Sequence[Dialogue]
) -> None:
    asked = shown(held_out)
    said = answer(model, tokenizer, asked)
    records = [
        {"model": name, "prompt": spoken(dialogue), "answer": text} for dialogue, text in zip(asked, said, strict=True)
    ]
    _append(teller, records)


def spoken(dialogue: Dialogue) -> str:
    """A prompt as one text; of several turns, each on its line."""
    if len(dialogue.prompt) == 1:
        return dialogue.prompt[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in dialogue.prompt)


def _append(teller: Teller, records: Sequence[dict[str, str]]) -> None:
    """Add to samples.jsonl, in place of what the same model answered to the same prompt before."""
    if not teller.world.first:
        return
    path = teller.run.samples
    lines = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    fresh = {(record["model"], record["prompt"]) for record in records}
    kept = [line for line in lines if (line["model"], line["prompt"]) not in fresh]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [*kept, *records]))
