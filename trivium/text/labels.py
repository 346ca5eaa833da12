"""Single answers that were called good or bad, by files: prompt, answer and label in, labels out."""

from collections.abc import Iterator, Sequence
from functools import partial

from trivium.errors import DataError
from trivium.records import Label
from trivium.text.answers import prompt_in, with_answer
from trivium.text.preferences import PROMPTS
from trivium.text.rows import REMEDY, ROW_KINDS, Row
from trivium.text.schemas import BadRows, Say, Schema, named, quiet, read_file, read_sources
from trivium.text.sources import sources_of

ANSWERS = ("completion", "response", "answer", "output")
LABELS = ("label", "good", "desirable", "rating", "thumbs_up")
GOOD, BAD = ("1", "true", "yes", "good", "up"), ("0", "false", "no", "bad", "down")


def read_labels(specs: Sequence[str], *, bad_rows: BadRows = "stop", say: Say = quiet) -> Iterator[Label]:
    """Every labelled answer of the files that the specs stand for.

    raises  ConfigError for a spec without files, DataError for a bad file, or a bad row unless bad_rows = "skip"
    """
    sources = sources_of(specs, field="reward.labels", kinds=ROW_KINDS, say=say)
    read = partial(read_file, recognise=recognise, noun="label", bad_rows=bad_rows)
    return read_sources(sources, read, bad_rows=bad_rows, say=say)


def recognise(row: Row) -> Schema[Label]:
    """Raises DataError naming the columns seen and those known."""
    if not _fits(row.value):
        raise DataError(
            f"{row.where}: no labelled answer has {named(row.value)}; it takes one of {', '.join(PROMPTS)}, "
            f"one of {', '.join(ANSWERS)}, and one of {', '.join(LABELS)}"
        )
    return Schema("answers with a label", _fits, _read)


def _fits(value: dict[str, object]) -> bool:
    return all(any(key in value for key in keys) for keys in (PROMPTS, ANSWERS, LABELS))


def _read(row: Row) -> list[Label]:
    prompt_key, answer_key, label_key = (next(k for k in keys if k in row.value) for keys in (PROMPTS, ANSWERS, LABELS))
    prompt = prompt_in(row, prompt_key)
    turns = with_answer(prompt, row.value[answer_key], answer_key, row.where)
    said = str(row.value[label_key]).strip().lower().removesuffix(".0")
    if said not in (*GOOD, *BAD):
        raise DataError(f'{row.where}: "{label_key}" is {said[:40] or "empty"}; give 1 or 0, or {REMEDY}')
    if turns[-1].role != "assistant":
        raise DataError(f'{row.where}: "{answer_key}" ends with role "{turns[-1].role}"; the assistant\'s must be last')
    return [Label(tuple(turns[:-1]), turns[-1].content, said in GOOD, row.where)]
