"""The verbs, in the order of the story. Parses and delegates; results on stdout, progress on stderr."""

import atexit
import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter
from pydantic import ValidationError

from trivium import __version__, using
from trivium.ballot import feedback
from trivium.config import first_error
from trivium.errors import ConfigError, Interrupted, TriviumError
from trivium.flags import (
    AsJson,
    Flags,
    From,
    Minutes,
    ModelFolder,
    Out,
    PhaseMinutes,
    RecipeOrRun,
    RunFolder,
    print_json,
    said,
)

# How long an idle thread of GNU's OpenMP waits awake, in turns of a loop. Its own default is hundreds of thousands:
# with another program on the same cores a step then takes twenty times as long, with this twice (docs/log.md).
SPINS = "2000"

app = App(
    name="trivium",
    version=__version__,
    help="Pretrain, instruct and align a language model: from raw text to a chat model aligned on your votes.",
    help_format="plaintext",
)


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
    begun = time.monotonic()
    from trivium.story.opening import open_story
    from trivium.story.whole import tell_whole

    flags = said(settings, start)
    with open_story(recipe, out=out, minutes=minutes, flags=flags, new_round=round, begun=begun) as teller:
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
    minutes: PhaseMinutes = None,
    out: Out = None,
    start: From = None,
    settings: Flags = None,
) -> None:
    """Phase I: text with words missing → base."""
    begun = time.monotonic()
    from trivium.story.opening import open_story
    from trivium.story.stages import make_base

    flags = said(settings, start)
    with open_story(recipe, out=out, minutes=minutes, flags=flags, through="pretrain", begun=begun) as teller:
        print(make_base(teller))


@app.command
def instruct(
    recipe: RecipeOrRun = None,
    *,
    minutes: PhaseMinutes = None,
    out: Out = None,
    start: From = None,
    settings: Flags = None,
) -> None:
    """Phase II: instructions and their answers → instruct, of the folder --from; without one base is made first."""
    begun = time.monotonic()
    from trivium.story.opening import open_story
    from trivium.story.stages import make_instruct, take_base

    flags = said(settings, start)
    with open_story(
        recipe, out=out, minutes=minutes, flags=flags, through="instruct", taught=("pretrain",), begun=begun
    ) as teller:
        take_base(teller)
        print(make_instruct(teller))


@app.command
def reward(
    run: RecipeOrRun = None,
    *,
    minutes: Minutes = None,
    out: Out = None,
    start: From = None,
    settings: Flags = None,
) -> None:
    """Phase III, first half: votes → a model that scores answers, and the report that says how far to trust it."""
    from trivium.story.collecting import collect_votes
    from trivium.story.rounds import current_round
    from trivium.story.trusting import make_reward

    with _third_phase(run, minutes, out, start, settings) as teller:
        round = current_round(teller)
        print(make_reward(teller, round, collect_votes(teller, round)))


@app.command
def align(
    run: RecipeOrRun = None,
    *,
    minutes: Minutes = None,
    out: Out = None,
    start: From = None,
    round: Annotated[bool, Parameter(negative="", help="begin the next round when the last one is done")] = False,
    settings: Flags = None,
) -> None:
    """Phase III, second half: reinforcement learning against the reward model → aligned."""
    from trivium.story.rounds import tell_latest

    with _third_phase(run, minutes, out, start, settings) as teller:
        print(tell_latest(teller, begin_next=round))


@contextmanager
def _third_phase(
    run: Path | None, minutes: float | None, out: Path | None, start: Path | None, settings: Any
) -> Iterator[Any]:
    """A run that has its instruct: its own, or the folder --from, with which a run may begin here."""
    from trivium.story.opening import open_story
    from trivium.story.stages import take_instruct

    flags, taught = said(settings, start), ("pretrain", "instruct")
    with open_story(
        run, out=out, minutes=minutes, flags=flags, new_round=True, must_exist=True, taught=taught
    ) as teller:
        take_instruct(teller)
        yield teller


fill = app.command(using.fill)
chat = app.command(using.chat)
generate = app.command(using.generate)
serve = app.command(using.serve)


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


feedback = app.command(feedback)


@app.command
def evaluate(
    model: Annotated[Path, Parameter(help="a run folder, all of whose models are measured, or a model folder")],
    *,
    questions: Annotated[Path | None, Parameter(help="a file of questions and answers, as data.answers takes")] = None,
    json: AsJson = False,
    settings: Flags = None,
) -> None:
    """Measure every model of a run, or one model, on held-out data. Changes nothing in the run."""
    from trivium.story.measure import evaluate_model, evaluate_run, print_measures

    is_model = (model / "config.json").exists()
    found = (evaluate_model if is_model else evaluate_run)(model, questions, flags=said(settings))
    print_json(found) if json else print_measures(found)


@app.command
def report(run: RunFolder) -> None:
    """One self-contained HTML page of a run."""
    from trivium.report import write_report

    print(write_report(run))


@app.command
def export(
    model: ModelFolder,
    *,
    to: Annotated[Literal["gguf", "hf"], Parameter(help="a file for llama.cpp, or a folder for everything else")],
    type: Annotated[Literal["f32", "f16", "q8_0"], Parameter(help="of a GGUF file's matrices")] = "f16",
    out: Annotated[Path | None, Parameter(help="the file or folder  [default: here, named after the model]")] = None,
    json: AsJson = False,
) -> None:
    """Write a model for other programs; it is read again and compared before this says done."""
    from trivium.story.carrying import export as carry
    from trivium.story.carrying import print_export

    found = carry(model, to=to, numbers=type, out=out)
    print_json(found) if json else print_export(found)


@app.command(name="import")
def import_model(
    folder: Annotated[Path, Parameter(help="a Llama 3, Qwen2 or Qwen3 folder, as transformers writes them")],
    *,
    out: Annotated[Path | None, Parameter(help="the model folder  [default: models/NAME of the folder]")] = None,
    json: AsJson = False,
) -> None:
    """Take somebody else's model in: afterwards every verb takes it."""
    from trivium.story.carrying import print_import, take_in

    found = take_in(folder, out=out)
    print_json(found) if json else print_import(found)


@app.command
def studio(
    run: RunFolder,
    *,
    host: Annotated[str, Parameter(help="the address to listen on; others need an invitation")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="0: a free one")] = 0,
    name: Annotated[list[str], Parameter(help="under which others reach it, such as studio.example.org")] = [],  # noqa: B006
    browser: Annotated[bool, Parameter(help="open it in the browser")] = True,
) -> None:
    """The web app: watch the run, talk to its models, vote, start the next round."""
    from trivium.studio.server import serve_studio

    serve_studio(run, host=host, port=port, names=name, browser=browser)


@app.command
def inspect(
    recipe: RecipeOrRun = None,
    *,
    show: Annotated[int, Parameter(help="how many of each")] = 3,
    start: From = None,
    html: Annotated[Path | None, Parameter(help="write it as one self-contained page instead")] = None,
    json: AsJson = False,
    settings: Flags = None,
) -> None:
    """Documents, dialogues and pairs as the model sees them: what is learned, and what is only read."""
    from msgspec import to_builtins

    from trivium.story.inspecting import inspect_recipe, print_inspection, write_page

    found = inspect_recipe(recipe, flags=said(settings, start), count=show)
    if html:
        written = write_page(found, html)
    if json:
        print_json(to_builtins(found))
    elif html:
        print(written)
    else:
        print_inspection(found)


@app.command
def bench(
    *,
    device: Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="auto takes a GPU where there is one")] = "auto",
    quick: Annotated[bool, Parameter(negative="", help="the smallest size alone, fewer steps")] = False,
    json: AsJson = False,
) -> None:
    """Speed here, against this machine's own ceiling: training and writing, at several sizes."""
    from trivium.story.bench import measure_speed, print_speed

    found = measure_speed(device, quick=quick)
    print_json(found) if json else print_speed(found)


@app.command
def doctor(
    *,
    votes: Annotated[str, Parameter(help="URL of a database of votes, to be tried too: postgresql://...")] = "",
    json: AsJson = False,
) -> None:
    """Is this machine fit, and what will be used. Exits with 1 when it is not."""
    from trivium.story.doctor import examine, print_findings

    found = examine(votes=votes)
    print_json(found) if json else print_findings(found)
    if not found["fit"]:
        sys.exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb. A user's mistake is one line on stderr and exit code 2; an interruption exits with 130."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # before torch is imported
    atexit.register(gc.freeze)  # else Python takes a second to look for garbage in what ends with the process anyway
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except Interrupted as reason:
        sys.exit(complain(reason, 130))
    except TriviumError as reason:
        sys.exit(complain(reason, 2))
    except cyclopts.ValidationError as reason:
        sys.exit(complain(ConfigError(flag_error(reason)), 2))
    except cyclopts.UnusedCliTokensError as reason:
        sys.exit(complain(ConfigError(unused(reason.unused_tokens or ())), 2))
    except cyclopts.CycloptsError as reason:
        sys.exit(complain(reason, 2))
    except BrokenPipeError:
        sys.exit(0)


def flag_error(reason: cyclopts.ValidationError) -> str:
    """What is wrong with a flag, as it would be said of a recipe file."""
    cause = reason.__cause__ or reason.__context__
    return first_error(cause) if isinstance(cause, ValidationError) else str(reason)


def unused(words: Sequence[str]) -> str:
    """What is wrong with words that belong to nothing: often a list that a shell has made of a glob."""
    remedy = "several values have the flag before each (--data.text A --data.text B), and a glob stands in quotes"
    return f"{', '.join(words)}: not expected here; {remedy}"


def complain(reason: BaseException, code: int) -> int:
    from trivium.show import printable

    kind = "trivium" if isinstance(reason, (Interrupted, cyclopts.CycloptsError)) else type(reason).__name__
    print(f"{kind}: {printable(' '.join(str(reason).split()))}", file=sys.stderr)
    return code
