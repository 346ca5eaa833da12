"""The verbs of a model in use: fill, chat, generate, serve. Parses and delegates."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trivium.flags import AsJson, ModelFolder, print_json
from trivium.story.manner import Manner, Plain

Speaking = Annotated[Manner, Parameter(name="*", group="How it speaks")]
ModelFolders = Annotated[
    list[Path], Parameter(help="model folders such as runs/NAME/instruct, or run folders: their latest models")
]


def fill(
    model: ModelFolder,
    text: Annotated[str, Parameter(help='text with blanks of three underscores: "The ___ sat on the mat."')],
    *,
    best: Annotated[int, Parameter(help="how many to show, of each blank and of whole texts")] = 3,
    json: AsJson = False,
) -> None:
    """Fill in the blanks of a text with a base model."""
    from trivium.story.filling import fill_blanks, print_fillings

    found = fill_blanks(model, text, best=best)
    print_json(found) if json else print_fillings(found)


def chat(models: ModelFolders, /, *, manner: Speaking = Manner()) -> None:  # noqa: B008
    """Talk to a model, or to several side by side; /help lists what can be typed. A pipe: one message a line."""
    from trivium.story.chatting import chat_with

    chat_with(models, manner)


def generate(
    model: ModelFolder,
    prompts: Annotated[list[str], Parameter(help="what to answer; none: a line of stdin each")] = [],  # noqa: B006
    /,
    *,
    file: Annotated[Path | None, Parameter(help="JSONL, CSV or Parquet with prompts, or data.answers' schemas")] = None,
    n: Annotated[int, Parameter(help="answers to each prompt")] = 1,
    raw: Annotated[bool, Parameter(negative="", help="go on with the text; without, only base does that")] = False,
    system: Annotated[str, Parameter(help="what is said before each prompt")] = "",
    stop: Annotated[list[str], Parameter(help="texts that end an answer, not part of it")] = [],  # noqa: B006
    logprobs: Annotated[
        int | None, Parameter(help="tell each token with its log-probability, and so many that might have been")
    ] = None,
    precision: Annotated[str, Parameter(help="auto: products in bfloat16 for what is drawn; or float32")] = "auto",
    out: Annotated[Path | None, Parameter(help="a .jsonl file, a line for each answer; data.answers reads it")] = None,
    json: AsJson = False,
    manner: Annotated[Plain, Parameter(name="*", group="How it speaks")] = Plain(),  # noqa: B008
) -> None:
    """Answers to many prompts at once, at full speed. In a run folder: by its latest model."""
    from trivium.story.generating import Wanted, check_out, generate_answers, print_answers, write_answers

    if out:
        check_out(out)
    wanted = Wanted(n=n, raw=raw, system=system, stop=tuple(stop), logprobs=logprobs, precision=precision)
    found = generate_answers(model, prompts, file, wanted, manner)
    if out:
        write_answers(found, out)
    if json:
        print_json(found)
    elif not out:
        print_answers(found)


def serve(
    models: Annotated[list[Path], Parameter(help="model folders, or run folders: all their finished models")],
    /,
    *,
    host: Annotated[str, Parameter(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="0: a free one")] = 8000,
    name: Annotated[list[str], Parameter(help="by which others reach it, such as models.example.org")] = [],  # noqa: B006
    api_key: Annotated[
        str | None, Parameter(env_var="TRIVIUM_API_KEY", help="what callers have to show; needed beyond this machine")
    ] = None,
) -> None:
    """Models by HTTP, as OpenAI's API has it: /v1/models, /v1/completions, /v1/chat/completions."""
    from trivium.studio.serving import serve_models

    serve_models(models, host=host, port=port, names=name, api_key=api_key)
