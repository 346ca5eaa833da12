"""What the verbs share: a flag for every setting, and the arguments that several of them take."""

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from pydantic import BaseModel, ConfigDict, create_model

from trivium.config import Recipe, Settings, merge


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


Draft: Any = draft_of(Recipe)
CHOSEN = "Of a new run --minutes chooses sizes, steps, rows and rates that nobody says; trivium plan shows what."
Flags = Annotated[Draft, Parameter(name="*", group=Group("Settings", help=CHOSEN))]
Minutes = Annotated[float | None, Parameter(help="time for the whole run; decides size and steps  [default: 10]")]
PhaseMinutes = Annotated[
    float | None, Parameter(help="time up to the end of this phase; decides size and steps  [default: 10]")
]
Out = Annotated[Path | None, Parameter(help="the run folder  [default: runs/NAME of the recipe]")]
From = Annotated[
    Path | None,
    Parameter(name="--from", help="a model folder to go on from: any Llama 3, Qwen2 or Qwen3  [start.folder]"),
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="print the result as one JSON object")]
RecipeOrRun = Annotated[Path | None, Parameter(help="a recipe file, or a run folder to go on with")]
RunFolder = Annotated[Path, Parameter(help="a run folder")]
ModelFolder = Annotated[Path, Parameter(help="a model folder such as runs/NAME/instruct, or a run folder")]


def said(settings: Any, start: Path | None = None) -> Settings:
    """Only what was given on the command line.

    start  what --from says, the short name of --start.folder
    """
    given: Settings = {} if settings is None else dict(settings.model_dump(exclude_unset=True))
    return merge(given, {"start": {"folder": str(start)}}) if start else given


def print_json(found: object) -> None:
    print(json.dumps(found, ensure_ascii=False))
