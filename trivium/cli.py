"""The verbs, in the order of the story. Parses and delegates; results on stdout, progress on stderr."""

import json as json_module
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Parameter
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from trivium import __version__
from trivium.config import Recipe, Settings, first_error, merge
from trivium.errors import ConfigError, Interrupted, TriviumError


def draft_of(model: type[BaseModel]) -> type[BaseModel]:
    """The same fields, without their rules: a flag is judged only together with the recipe it changes."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = draft_of(kind)
            fields[name] = (kind, kind())
        else:
            fields[name] = (kind, field.get_default())
    made = create_model(model.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    for name, field in model.model_fields.items():
        made.model_fields[name].description = field.description
    return made


# How long an idle thread of GNU's OpenMP waits awake, in turns of a loop. Its own default is hundreds of thousands:
# with another program on the same cores a step then takes twenty times as long, with this twice (docs/log.md).
SPINS = "2000"

Draft: Any = draft_of(Recipe)
Flags = Annotated[Draft, Parameter(name="*", group="Settings")]
Minutes = Annotated[float | None, Parameter(help="time for the whole run; decides size and steps  [default: 10]")]
Out = Annotated[Path | None, Parameter(help="the run folder  [default: runs/NAME of the recipe]")]
From = Annotated[
    Path | None,
    Parameter(name="--from", help="a model folder to go on from: any Llama, Qwen2 or Qwen3  [start.folder]"),
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="print the result as one JSON object")]
RecipeOrRun = Annotated[Path | None, Parameter(help="a recipe file, or a run folder to go on with")]
RunFolder = Annotated[Path, Parameter(help="a run folder")]
ModelFolder = Annotated[Path, Parameter(help="a model folder such as runs/NAME/instruct, or a run folder")]

app = App(
    name="trivium",
    version=__version__,
    help="Pretrain, instruct and align a language model: from raw text to a chat model aligned on your votes.",
    help_format="plaintext",
)


def said(settings: Any, start: Path | None = None) -> Settings:
    """Only what was given on the command line.

    start  what --from says, the short name of --start.folder
    """
    given: Settings = {} if settings is None else dict(settings.model_dump(exclude_unset=True))
    return merge(given, {"start": {"folder": str(start)}}) if start else given


@app.command
def run(
    recipe: RecipeOrRun = None,
    *,
    minutes: Minutes = None,
    out: Out = None,
    start: From = None,
    round: Annotated[bool, Parameter(negative="", help="train the next round of phase III on all votes")] = False,
    json: AsJson = False,
    settings: Flags = None,
) -> None:
    """All three phases and the report, in one run folder. Run again, it goes on where it was."""
    from trivium.story.opening import open_story
    from trivium.story.whole import tell_whole

    with open_story(recipe, out=out, minutes=minutes, flags=said(settings, start), new_round=round) as teller:
        found = tell_whole(teller, new_round=round)
    if json:
        print_json(found)


@app.command
def plan(
    recipe: RecipeOrRun = None,
    *,
    minutes: Minutes = None,
    start: From = None,
    json: AsJson = False,
    settings: Flags = None,
) -> None:
    """What would be trained, in which memory and time, before it is spent."""
    from trivium.story.forecast import forecast, print_forecast

    found = forecast(recipe, minutes=minutes, flags=said(settings, start))
    print_json(found) if json else print_forecast(found)


@app.command
def pretrain(
    recipe: RecipeOrRun = None,
    *,
    minutes: Minutes = None,
    out: Out = None,
    start: From = None,
    settings: Flags = None,
) -> None:
    """Phase I: text with words missing → base."""
    from trivium.story.opening import open_story
    from trivium.story.stages import make_base

    with open_story(recipe, out=out, minutes=minutes, flags=said(settings, start)) as teller:
        print(make_base(teller))


@app.command
def instruct(
    recipe: RecipeOrRun = None,
    *,
    minutes: Minutes = None,
    out: Out = None,
    start: From = None,
    settings: Flags = None,
) -> None:
    """Phase II: instructions and their answers → instruct. Makes base first where there is none."""
    from trivium.story.opening import open_story
    from trivium.story.stages import make_base, make_instruct

    with open_story(recipe, out=out, minutes=minutes, flags=said(settings, start)) as teller:
        make_base(teller)
        print(make_instruct(teller))


@app.command
def reward(run: RunFolder, *, settings: Flags = None) -> None:
    """Phase III, first half: votes → a model that scores answers, and the report that says how far to trust it."""
    from trivium.story.opening import open_story
    from trivium.story.rounds import collect_votes, current_round
    from trivium.story.trusting import make_reward

    with open_story(run, out=None, minutes=None, flags=said(settings), new_round=True, must_exist=True) as teller:
        round = current_round(teller)
        print(make_reward(teller, round, collect_votes(teller, round)))


@app.command
def align(
    run: RunFolder,
    *,
    round: Annotated[bool, Parameter(negative="", help="begin the next round when the last one is done")] = False,
    settings: Flags = None,
) -> None:
    """Phase III, second half: reinforcement learning against the reward model → aligned."""
    from trivium.story.opening import open_story
    from trivium.story.rounds import current_round, tell_round

    with open_story(run, out=None, minutes=None, flags=said(settings), new_round=True, must_exist=True) as teller:
        print(tell_round(teller, current_round(teller, begin_next=round).number))


@app.command
def fill(
    model: ModelFolder,
    text: Annotated[str, Parameter(help='text with blanks of three underscores: "The ___ sat on the mat."')],
    *,
    best: Annotated[int, Parameter(help="how many fillings to show for each blank")] = 3,
    json: AsJson = False,
) -> None:
    """Fill in the blanks of a text with a base model."""
    from trivium.story.talking import fill_blanks, print_fillings

    found = fill_blanks(model, text, best=best)
    print_json(found) if json else print_fillings(found)


@app.command
def chat(
    model: ModelFolder,
    *,
    temperature: Annotated[float, Parameter(help="0 always takes the most probable word")] = 0.7,
    top_p: Annotated[float, Parameter(help="only the most probable words that together reach this")] = 0.95,
    seed: Annotated[int, Parameter(help="of the random words")] = 0,
) -> None:
    """Talk to a model. In a run folder: to its latest stage."""
    from trivium.story.talking import chat_with

    chat_with(model, temperature=temperature, top_p=top_p, seed=seed)


@app.command
def vote(
    run: RunFolder,
    *,
    rater: Annotated[str, Parameter(help="whose votes they are")] = "me",
    count: Annotated[int, Parameter(help="pairs to ask about")] = 20,
) -> None:
    """Two fresh answers to a prompt, again and again: which is better? The votes are stored in the run."""
    from trivium.story.voting import vote_in_terminal

    vote_in_terminal(run, rater=rater, count=count)


@app.command
def evaluate(run: RunFolder, *, json: AsJson = False, settings: Flags = None) -> None:
    """Measure every model of a run on held-out data. Changes nothing in the run."""
    from trivium.show import Show
    from trivium.story.measure import by_kind_rows, measure_run, table_rows
    from trivium.story.opening import look_into

    with look_into(run, flags=said(settings)) as teller:
        found = measure_run(teller)
    if json:
        print_json(found)
        return
    show = Show(stderr=False)
    show.table("Held-out measures", *table_rows(found))
    show.table("Instructions by kind", *by_kind_rows(found))


@app.command
def report(run: RunFolder) -> None:
    """One self-contained HTML page of a run."""
    from trivium.report import write_report

    print(write_report(run))


@app.command
def inspect(
    recipe: RecipeOrRun = None,
    *,
    show: Annotated[int, Parameter(help="how many of each")] = 3,
    start: From = None,
    settings: Flags = None,
) -> None:
    """Documents, dialogues and pairs as the model sees them: what is learned, and what is only read."""
    from trivium.story.inspecting import inspect_recipe

    inspect_recipe(recipe, flags=said(settings, start), count=show)


def print_json(found: object) -> None:
    print(json_module.dumps(found, ensure_ascii=False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb. A user's mistake is one line on stderr and exit code 2; an interruption exits with 130."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # before torch is imported
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except Interrupted as reason:
        sys.exit(complain(reason, 130))
    except TriviumError as reason:
        sys.exit(complain(reason, 2))
    except cyclopts.ValidationError as reason:
        sys.exit(complain(ConfigError(flag_error(reason)), 2))
    except cyclopts.CycloptsError as reason:
        sys.exit(complain(reason, 2))
    except BrokenPipeError:
        sys.exit(0)


def flag_error(reason: cyclopts.ValidationError) -> str:
    """What is wrong with a flag, as it would be said of a recipe file."""
    cause = reason.__cause__ or reason.__context__
    return first_error(cause) if isinstance(cause, ValidationError) else str(reason)


def complain(reason: BaseException, code: int) -> int:
    kind = "trivium" if isinstance(reason, (Interrupted, cyclopts.CycloptsError)) else type(reason).__name__
    print(f"{kind}: {' '.join(str(reason).split())}", file=sys.stderr)
    return code
