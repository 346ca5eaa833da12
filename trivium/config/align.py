"""Settings of phase III, its algorithms and their choices. No torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from trivium.config.optimizer import OptimizerConfig, Share
from trivium.model.shape import must_divide
from trivium.terms import read_term

GROUPS, PAIRS = ("grpo", "rloo", "rejection"), ("dpo", "online-dpo")
WRITES = (*GROUPS, "ppo")  # and learn from the probability of what they wrote
READ_BY = {  # settings of phase III that only some algorithms read
    "epochs": (*GROUPS, "ppo", "dpo"),
    "minibatches": WRITES,
    "kl": WRITES,
    "ratio": GROUPS,
    "spread": ("grpo",),
    "weigh": WRITES,
    "redraws": (*GROUPS, "online-dpo"),
    "kl_loss": WRITES,
    "entropy": WRITES,
    "overlong": WRITES,
    "unended_penalty": (*WRITES, "online-dpo"),
    "overlong_buffer": (*WRITES, "online-dpo"),
    "value_weight": ("ppo",),
    "value_clip": ("ppo",),
    "trace": ("ppo",),
    "beta": PAIRS,
    "pair_loss": PAIRS,
    "per_token": PAIRS,
    "smoothing": ("dpo",),
}


class AlignConfig(OptimizerConfig):
    """Phase III: reinforcement learning against the reward model, held near the instruct model."""

    algorithm: Literal["grpo", "rloo", "rejection", "ppo", "dpo", "online-dpo"] = "grpo"
    """grpo and rloo compare a group's answers, rejection imitates the best, online-dpo prefers it to the worst; ppo
    asks a value model what to expect; dpo learns from the votes themselves"""
    rewards: tuple[str, ...] = ("model",)
    """what an answer earns, as a sum of terms such as "model", "0.5 * exact", "number", "ended", "pattern ^[A-Z]",
    "length 40", "function my_rules.py:score", "judge http://127.0.0.1:8000/v1 NAME"; only "model" needs votes;
    "exact" and "number" give nothing to an answer that never ends"""
    gate: bool = True
    """whether a reward model must surely be better than chance and than the longer answer before anything learns from
    it; left open by the dial in short runs, where it must be better but need not be sure"""
    rows_per_step: int = Field(128, ge=2)
    """answers written at once: prompts times group; dpo: answers in a step, two to a pair"""
    microbatch_rows: int = Field(128, ge=1)
    """answers computed at once; must divide rows_per_step"""
    epochs: int = Field(1, ge=1)
    """passes over what was written at once; dpo: over the votes, where the dial chooses the steps"""
    minibatches: int = Field(1, ge=1)
    """optimizer steps in each of these passes, each on its part of what was written"""
    learning_rate: float = Field(6e-4, gt=0)
    """peak of AdamW: embeddings, output matrix and norms"""
    matrix_learning_rate: float = Field(2.5e-3, gt=0)
    """peak of Muon: the matrices of the layers"""
    warmup_steps: int = Field(3, ge=0)
    """steps in which the learning rate rises, the first ones"""
    decay: Share = 0.3
    """share of the steps in which it falls to zero, at the end"""
    group: int = Field(8, ge=1)
    """answers to each prompt; only ppo learns from one alone"""
    redraws: int = Field(0, ge=0)
    """how often other questions are asked, at most, in place of those whose answers all earn the same (DAPO)"""
    temperature: float = Field(1.0, gt=0)
    """of the answers that are learned from"""
    max_new_tokens: int = Field(96, ge=1)
    """longest answer, in tokens"""
    kl: float = Field(0.2, ge=0)
    """reward lost per nat of KL to the instruct model"""
    clip_low: float = Field(0.2, gt=0, lt=1)
    """how far the probability ratio may fall"""
    clip_high: float = Field(0.28, gt=0)
    """how far it may rise; ppo: 0.2, unless it was said"""
    ratio: Literal["token", "sequence"] = "token"
    """whether each token is clipped by itself, or an answer's tokens all together (GSPO)"""
    spread: bool = False
    """grpo: whether advantages are divided by the group's spread, which favours prompts whose answers hardly differ"""
    weigh: Literal["tokens", "answers", "constant"] = "tokens"
    """what weighs the same: every token of a step (DAPO), every answer whatever its length (GRPO as published), or
    every token of every step, by dividing by what could have been written (Dr. GRPO)"""
    kl_loss: float = Field(0.0, ge=0)
    """weight of the KL to the reference in the loss (k2): the same KL as the price in the reward, in the same unit"""
    entropy: float = Field(0.0, ge=0)
    """weight of the entropy in the loss, in reward per nat and token, which keeps answers different"""
    unended_penalty: float = Field(2.0, ge=0)
    """reward lost by an answer that never ends"""
    overlong: Literal["learn", "skip"] = "learn"
    """whether an answer that never ends is learned from, or left out of the loss (DAPO)"""
    overlong_buffer: int = Field(0, ge=0)
    """tokens before the longest answer in which that penalty grows from nothing, also for answers that end (DAPO)"""
    value_weight: float = Field(0.5, gt=0)
    """ppo: weight of the value model's loss"""
    value_clip: float = Field(0.2, gt=0)
    """ppo: how far a value may move from what it was when the answers were written, in reward"""
    trace: Share = 0.95
    """ppo: lambda, how far a surprise is carried back: 1 to the first token, 0 not at all"""
    beta: float = Field(0.1, gt=0)
    """dpo, online-dpo: how much it costs to leave the reference; larger holds the policy nearer"""
    pair_loss: Literal["logistic", "squared"] = "logistic"
    """dpo, online-dpo: whether a margin is pushed on for ever (DPO), or aimed at (IPO)"""
    per_token: bool = False
    """dpo, online-dpo: whether log-probabilities are divided by the answers' lengths, so that longer makes no margin"""
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """dpo: share of votes taken to be mistaken"""
    replay: float = Field(0.3, ge=0)
    """weight of phase II's loss beside it, on answers known to be right, so that they stay learned; 0: none"""
    imitation_epochs: float = Field(1.0, ge=0)
    """passes over the preferred answers of pairs on file before reinforcement, which cannot find them by itself"""

    @model_validator(mode="before")
    @classmethod
    def _as_ppo_was_published(cls, said: Any) -> Any:
        return {"clip_high": 0.2, **said} if isinstance(said, dict) and said.get("algorithm") == "ppo" else said

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.algorithm != "dpo" and self.rows_per_step % self.group:
            given = self.model_fields_set
            raise ValueError(must_divide("group", self.group, "rows_per_step", self.rows_per_step, given=given))
        if self.group < 2 and self.algorithm not in ("ppo", "dpo"):
            raise ValueError(f"group = {self.group}: must be at least 2 for {self.algorithm}; sample more answers")
        for name in ("rows_per_step", "microbatch_rows"):
            if self.algorithm in PAIRS and getattr(self, name) % 2:
                raise ValueError(f"{name} = {getattr(self, name)}: must be even for {self.algorithm}; two make a pair")
        microbatches = self.rows_per_step // self.microbatch_rows
        if microbatches % self.minibatches:
            raise ValueError(
                f"minibatches = {self.minibatches}: must divide the {microbatches} micro-batches of "
                f"rows_per_step = {self.rows_per_step}; lower microbatch_rows = {self.microbatch_rows}"
            )
        return self

    @model_validator(mode="after")
    def _read_by_the_algorithm(self) -> Self:
        for name, algorithms in READ_BY.items():
            value, default = getattr(self, name), type(self).model_fields[name].default
            if self.algorithm not in algorithms and value != default:
                readers = ", ".join(algorithms)
                raise ValueError(f"{name} = {value}: is read by {readers}, not by {self.algorithm}; leave it {default}")
        return self

    @model_validator(mode="after")
    def _known_rewards(self) -> Self:
        if not self.rewards:
            raise ValueError('rewards = []: must not be empty, nothing would be learned; give "model"')
        for text in self.rewards:
            read_term(text)
        return self

    @property
    def uses_model(self) -> bool:
        """Whether a reward model decides what an answer earns, for which there must be votes."""
        return self.algorithm != "dpo" and any(read_term(text).kind == "model" for text in self.rewards)

    @property
    def uses_votes(self) -> bool:
        """Whether anything is learned from votes."""
        return self.algorithm == "dpo" or self.uses_model

    @property
    def stride(self) -> int:
        """Steps that learn from what was written at once."""
        return self.epochs * self.minibatches if self.algorithm in WRITES else 1
