"""Recipes: frozen models of every setting, read from TOML and flags, saved as they were resolved. No torch.

A phase holds only the fields it reads. A recipe file holds differences from these defaults; what neither the file nor a
flag says, the dial may choose (plan/).
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
from pydantic import BaseModel, Field, ValidationError, field_validator

from trivium.config.align import AlignConfig as AlignConfig
from trivium.config.optimizer import Frozen, Share
from trivium.config.optimizer import OptimizerConfig as OptimizerConfig
from trivium.errors import ConfigError, did_you_mean
from trivium.model.shape import ModelConfig

Settings = dict[str, Any]  # a recipe as plain nested dictionaries, only what was said


class DataConfig(Frozen):
    """What the phases are taught from: `tinyworld`, `pydocs`, files, folders, globs, and `hf:` data sets of the hub.

    Of `NAME*0.5` the records are seen in every second epoch, of `NAME*2` twice in each.
    """

    folder: str = ""
    """where relative names of files below are looked for; empty: the current folder"""
    text: tuple[str, ...] = ("tinyworld",)
    """phase I: texts"""
    text_held_out: tuple[str, ...] = ()
    """texts to measure on; empty: a share of `text`"""
    answers: tuple[str, ...] = ("tinyworld",)
    """phase II: dialogues"""
    answers_held_out: tuple[str, ...] = ()
    """dialogues to measure on; empty: a share of `answers`"""
    pairs: tuple[str, ...] = ()
    """phase III: preference pairs; empty: votes on the model's own answers"""
    pairs_held_out: tuple[str, ...] = ()
    """pairs to measure on; empty: a share of `pairs`"""
    held_out_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """share of the records kept for measuring, where no file says which"""
    bad_rows: Literal["stop", "skip"] = "stop"
    """what a row that cannot be used does"""
    duplicates: Literal["near", "exact", "keep"] = "near"
    """which texts that repeat others are left out; none is ever learned from and measured on"""
    similarity: Annotated[float, Field(ge=0.7, lt=1)] = 0.8
    """share of five-word runs that near duplicates have in common"""
    hub_megabytes: float = Field(4000.0, gt=0)
    """how much text of each data set of the hub is taken, from its beginning"""
    file_megabytes: float = Field(0.0, ge=0)
    """how much text of the files is taken, of each its beginning, of small ones some; 0: all of it"""
    stories: int = Field(30_000, ge=10)
    """how many TinyWorld stories are written for phase I"""
    dialogues: int = Field(40_000, ge=10)
    """how many TinyWorld dialogues are written for phase II"""


class ComputeConfig(Frozen):
    """How numbers are computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of products and activations; weights stay float32; auto takes bfloat16 where the processor has it"""
    compile: bool = True
    """whether training steps are compiled, which pays in minutes, and not where layers run in C++"""
    threads: int = Field(0, ge=0)
    """processor threads; 0: as many as there are cores for this process"""
    save_seconds: float = Field(20.0, ge=0)
    """time between checkpoints"""


class StartConfig(Frozen):
    """The weights that phase I goes on from."""

    folder: str = ""
    """a model folder, such as a downloaded Qwen3: its shape and vocabulary are the run's; empty: fresh weights"""
    weights: str = ""
    """fingerprint that its weights must have; empty: any, written down when the run begins"""
    tokenizer: str = ""
    """fingerprint that its tokenizer and chat template must have; likewise"""


class PretrainConfig(OptimizerConfig):
    """Phase I: text with words missing."""

    learning_rate: float = Field(6e-3, gt=0)
    """peak of AdamW: embeddings, output matrix and norms"""
    matrix_learning_rate: float = Field(0.03, gt=0)
    """peak of Muon: the matrices of the layers"""
    momentum: Share = 0.8
    """of Muon"""
    blanks: Share = 0.15
    """share of the documents that are cut into fill-in-the-blank"""
    echo_steps: int = Field(320, ge=0)
    """steps, the first ones, on passages said twice; only fresh weights have it to learn"""
    bigrams: bool = True
    """whether fresh weights begin as a model of pairs of tokens, fitted to counts; not with tied embeddings"""
    candidates: int = Field(0, ge=0)
    """tokens that a micro-batch tells apart: its own, and others drawn in place of all; 0: the whole vocabulary"""


class InstructConfig(OptimizerConfig):
    """Phase II: instructions and their answers."""

    rows_per_step: int = Field(8, ge=1)
    """rows of context_length tokens in a step, over all ranks and micro-batches"""
    microbatch_rows: int = Field(8, ge=1)
    """rows computed at once; must divide rows_per_step"""
    learning_rate: float = Field(4e-3, gt=0)
    """peak of AdamW: embeddings, output matrix and norms"""
    matrix_learning_rate: float = Field(0.02, gt=0)
    """peak of Muon: the matrices of the layers"""
    loss_on: Literal["all", "last"] = "all"
    """which of the assistant's turns are learned"""
    text: Share = 0.03
    """share of the rows that are text, so that what phase I taught is not forgotten"""
    lora_rank: int = Field(0, ge=0)
    """of adapters on the linear layers, which alone are trained, and merged at the end; 0: all weights are trained"""
    lora_alpha: float = Field(32.0, gt=0)
    """what the adapters add is multiplied by this / lora_rank"""


class VotesConfig(Frozen):
    """Phase III: pairs of answers to vote on, and the simulated judge where people have not voted."""

    pairs: int = Field(2000, ge=10)
    """pairs of fresh answers that the simulated judge votes on, in each round"""
    simulated: bool = True
    """whether the simulated judge votes, where the world has one; if not, only people's votes count"""
    noise: Annotated[float, Field(ge=0, lt=0.5)] = 0.15
    """share of the simulated votes that say the opposite of the truth"""
    temperature: float = Field(1.0, gt=0)
    """of the sampled answers"""
    database: str = ""
    """where votes are kept: postgresql://user@host/name, one for each run; empty: feedback.db in the run folder"""

    @field_validator("database")
    @classmethod
    def _a_server_without_a_password(cls, url: str) -> str:
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("must be a postgresql:// URL, or empty for a file in the run folder")
        behind = url.partition("://")[2]
        if ":" in behind.partition("/")[0].rpartition("@")[0] or "password=" in behind.partition("?")[2]:
            raise ValueError("must hold no password, for recipes are shown and shared; put it into PGPASSWORD")
        return url


class RewardConfig(OptimizerConfig):
    """Phase III: a model that scores answers the way people voted."""

    rows_per_step: int = Field(32, ge=2)
    """pairs in a step"""
    microbatch_rows: int = Field(32, ge=2)
    """pairs computed at once; must divide rows_per_step"""
    learning_rate: float = Field(1e-3, gt=0)
    """peak of AdamW: embeddings, output matrix and norms"""
    matrix_learning_rate: float = Field(5e-3, gt=0)
    """peak of Muon: the matrices of the layers"""
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """share of votes taken to be mistaken"""
    centering: float = Field(0.01, ge=0)
    """weight of the penalty that keeps the mean reward near zero"""
    held_out_share: Annotated[float, Field(gt=0, lt=0.9)] = 0.15
    """share of the prompts whose votes only measure"""
    labels: tuple[str, ...] = ()
    """files of single answers that somebody called good or bad (prompt, completion, label), learned beside the votes"""
    debias_length: bool = False
    """whether what length alone adds to the reward, at equal quality, is taken off again"""
    learning_curve: bool = True
    """whether a second model learns from half of the votes, to tell what as many votes again would buy"""
    members: int = Field(1, ge=1, le=16)
    """models that learn from the votes and score together; each but the first is pretrained with a seed of its own"""
    member_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """of phase I's steps, for each member but the first; they take of phase I's time, not of other phases'"""
    combine: Literal["mean", "worst", "uncertain"] = "mean"
    """the members' scores: their mean, the lowest, or the mean less what they differ"""
    caution: float = Field(1.0, ge=0)
    """uncertain: weight of the members' variance"""


class WatchConfig(Frozen):
    """Phase III: when reinforcement no longer makes the model better, and the best so far is kept, not the last."""

    stop: bool = True
    """whether it then ends; if not, it goes on to its last step"""
    patience: int = Field(2, ge=1)
    """evaluations in a row that have to be worse than the best"""
    fall: Annotated[float, Field(gt=0, le=1)] = 0.1
    """worse: this much less of blind comparisons won than at the best; 100 comparisons err by about 0.04"""
    ended: Share = 0.5
    """worse: a smaller share of the answers ends, where as many did before the first step"""
    distinct: Share = 0.15
    """worse: a smaller share of a step's answers differs; likewise. No less than 1 / align.group ever does"""
    longer: float = Field(4.0, gt=1)
    """worse: so many times as many tokens as before the first step"""
    kl: float = Field(100.0, gt=0)
    """worse: more nats of KL to the reference"""


class EvaluateConfig(Frozen):
    """How much is measured, and how often."""

    along_the_way: int = Field(8, ge=0)
    """evaluations during each phase"""
    documents: int = Field(400, ge=2)
    """held-out documents for bits per byte"""
    blanks: int = Field(200, ge=2)
    """held-out blanks"""
    instructions: int = Field(600, ge=2)
    """held-out checkable instructions"""
    comparisons: int = Field(500, ge=2)
    """blind comparisons for the win rate"""
    best_of: int = Field(16, ge=0)
    """answers of instruct, at most, of which the best by reward is compared too, at about the same KL; 0: none"""


class Recipe(Frozen):
    """Everything that decides what is trained."""

    seed: int = 0
    """decides every random choice"""
    data: DataConfig = DataConfig()
    compute: ComputeConfig = ComputeConfig()
    start: StartConfig = StartConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    instruct: InstructConfig = InstructConfig(steps=500)
    votes: VotesConfig = VotesConfig()
    reward: RewardConfig = RewardConfig(steps=60)
    align: AlignConfig = AlignConfig(steps=60)
    watch: WatchConfig = WatchConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @property
    def members_apart(self) -> int:
        """Members of the reward's ensemble that are pretrained beside base; none on somebody's weights."""
        return self.reward.members - 1 if self.align.uses_model and not self.start.folder else 0

    @property
    def pretrainings(self) -> float:
        """How many times as much phase I takes with all of them as with base alone."""
        return 1 + self.members_apart * self.reward.member_share


def read_settings(path: Path) -> Settings:
    """The settings a recipe file names; raises ConfigError when it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as reason:
        siblings = [str(file) for file in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        remedy = "" if path.suffix else "; a new run's folder is named with --out"
        raise ConfigError(f"{path}: no such recipe{did_you_mean(str(path), siblings) or remedy}") from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as reason:
        of_a_list = "; of several values each has the flag before it, as in --data.text A --data.text B"
        remedy = "; mend it" if path.suffix == ".toml" else of_a_list
        raise ConfigError(f"{path}: not a TOML file: {reason}{remedy}") from reason


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> Settings:
    """Both settings together; where both speak, the second is heard. Other steps go without the `aims` of the first."""
    merged = dict(first)
    if "aims" in first and "aims" not in second and second.get("steps", first.get("steps")) != first.get("steps"):
        del merged["aims"]
    for key, value in second.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return merged


def resolve(settings: Mapping[str, Any]) -> Recipe:
    """The full recipe; raises ConfigError with one line that names field, value, rule and remedy."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as errors:
        raise ConfigError(first_error(errors)) from None


def first_error(errors: ValidationError) -> str:
    error = errors.errors()[0]
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {path}{did_you_mean(path, known_keys(Recipe))}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":  # ours: says field, value, rule and remedy
        return f"{path}.{message}"
    return f"{path} = {error['input']!r}: {message[0].lower()}{message[1:]}"


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key a recipe may hold, dotted."""
    keys = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        keys.append(prefix + name)
        if nested:
            assert isinstance(kind, type)
            keys += known_keys(kind, f"{prefix}{name}.")
    return keys


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe, every field with its value: the same file trains the same model."""
    return tomlkit.dumps(recipe.model_dump(mode="json"))
