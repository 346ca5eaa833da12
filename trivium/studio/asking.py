"""What a request of the OpenAI API may say. What is not here is refused, never ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trivium.errors import did_you_mean

MOST_PROMPTS = 256
KINDS = {  # of what may be more than one
    "prompt": f"a text, ids of tokens, or a list of up to {MOST_PROMPTS} of either",
    "content": 'a text, or a list of parts {"type": "text", "text": ...}: nothing else is read here',
}

Ids = Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(min_length=1)]


class ApiError(Exception):
    """A refusal in OpenAI's form."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> dict[str, Any]:
        kind = (
            "invalid_request_error"
            if self.status < 429
            else "rate_limit_error"
            if self.status == 429
            else "server_error"
        )
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    include_usage: bool = False


class Asked(BaseModel):
    """What both forms share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    max_tokens: Annotated[int | None, Field(ge=0)] = None
    temperature: Annotated[float, Field(ge=0, le=100)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int | None, Field(ge=1)] = None
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    n: Annotated[int, Field(ge=1, le=64)] = 1
    seed: int | None = None
    stop: Annotated[list[str], Field(max_length=16)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None  # says who asks; nothing depends on it

    @field_validator("stop", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return [] if value is None else [value] if isinstance(value, str) else value


class Completion(Asked):
    prompt: str | Ids | Annotated[list[str] | list[Ids], Field(min_length=1, max_length=MOST_PROMPTS)]
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    echo: bool = False


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text"]
    text: str


class Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str | list[Part]

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: object) -> object:
        """An answer that is sent back has fields that hold nothing, such as a refusal."""
        return {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Chat(Asked):
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    messages: Annotated[list[Said], Field(min_length=1)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0


def refusal(kind: type[Asked], errors: list[Any]) -> ApiError:
    """The first thing that is wrong with a request, in OpenAI's form."""
    first = errors[0]
    kinds, place = "str" in first["loc"], first["loc"]
    if kinds:  # one of several kinds that it may have: pydantic names each that it is not
        place = place[: place.index("str")]
    param = ".".join(str(part) for part in place) or None
    if first["type"] == "extra_forbidden":
        near = did_you_mean(str(place[-1]), kind.model_fields)
        return ApiError(f"{param}: is not supported here{near}", param=param, code="unsupported_parameter")
    told = f"must be {KINDS[place[-1]]}" if kinds else first["msg"].lower()
    return ApiError(f"{param or 'body'}: {told}", param=param, code="invalid_value")
