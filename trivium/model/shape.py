"""The shape of a decoder: every number that decides its tensors. No torch, so that help and plans stay quick."""

from collections.abc import Collection
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


def must_divide(name: str, value: int, whole_name: str, whole: int, *, given: Collection[str]) -> str:
    """`heads = 6: must divide width = 256, the default; try 4 or 8`.

    given  the names that were set; of others it is told that the value is the default
    """
    near = sorted((n for n in range(1, whole + 1) if whole % n == 0), key=lambda n: abs(n - value))[:2]
    default, whole_default = ("" if each in given else ", the default" for each in (name, whole_name))
    told = f"{name} = {value}{default}: must divide {whole_name} = {whole}{whole_default}"
    return f"{told}; try {' or '.join(map(str, sorted(near)))}"


def _stretches(scaling: tuple[float, ...]) -> bool:
    """Whether it is a known way to stretch positions."""
    if len(scaling) == 4:
        factor, low, high, original = scaling
        return factor >= 1 and 0 < low < high and original >= 1
    return not scaling or (len(scaling) == 1 and scaling[0] >= 1)


class ModelConfig(BaseModel):
    """A decoder of the Llama family, as Hugging Face writes it down."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    architecture: Literal["qwen3", "qwen2", "llama"] = "qwen3"
    """which of Hugging Face's decoders it is written down as; qwen3 normalises queries and keys"""
    vocab_size: int = Field(2048, ge=8)
    """tokens the model knows"""
    num_layers: int = Field(4, ge=1)
    """decoder layers"""
    width: int = Field(128, ge=8)
    """size of the residual stream"""
    num_heads: int = Field(4, ge=1)
    """query heads"""
    num_kv_heads: int = Field(4, ge=1)
    """key and value heads, num_heads unless given; fewer save memory in generation"""
    head_dim: int = Field(32, ge=2)
    """size of one head; width / num_heads unless given"""
    mlp_width: int = Field(384, ge=8)
    """inner size of the SwiGLU block"""
    context_length: int = Field(256, ge=8)
    """positions of one row, in tokens"""
    rope_theta: float = Field(10_000.0, gt=1)
    """base of the rotary frequencies"""
    rope_scaling: tuple[float, ...] = ()
    """stretches positions: nothing; a factor; or Llama 3's factor, low and high turns, and original context_length"""
    norm_eps: float = Field(1e-6, gt=0)
    """added to the mean square in RMSNorm"""
    tie_embeddings: bool = False
    """whether the output matrix is the embedding; fresh weights learn less so (docs/decisions/023)"""

    @model_validator(mode="before")
    @classmethod
    def _derive_kv_heads(cls, given: Any) -> Any:
        follows = isinstance(given, dict) and "num_heads" in given and "num_kv_heads" not in given
        return {**given, "num_kv_heads": given["num_heads"]} if follows else given

    @model_validator(mode="before")
    @classmethod
    def _derive_head_dim(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "head_dim" in given:
            return given
        width = given.get("width", cls.model_fields["width"].default)
        heads = given.get("num_heads", cls.model_fields["num_heads"].default)
        if not (isinstance(width, int) and isinstance(heads, int) and heads > 0):
            return given  # the fields' own checks say what is wrong
        if width % heads and "num_heads" in given:
            raise ValueError(must_divide("num_heads", heads, "width", width, given=given))
        if left := width % (2 * heads):
            told = f"must be a multiple of {2 * heads}, twice num_heads, as rotary embeddings turn pairs"
            near = [size for size in (width - left, width - left + 2 * heads) if size]
            raise ValueError(f"width = {width}: {told}; try {' or '.join(map(str, near))}")
        return {**given, "head_dim": width // heads}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            given = self.model_fields_set
            raise ValueError(must_divide("num_kv_heads", self.num_kv_heads, "num_heads", self.num_heads, given=given))
        if self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim}: must be even, rotary embeddings turn pairs")
        if not _stretches(self.rope_scaling):
            told = list(self.rope_scaling)
            raise ValueError(f"rope_scaling = {told}: must be [], [factor], or [factor, low, high, original context]")
        return self

    @property
    def matrix_parameters(self) -> int:
        """Parameters that are multiplied with every token: layers and output matrix, without norms."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        layer = self.width * (2 * queries + 2 * keys + 3 * self.mlp_width)
        return self.num_layers * layer + self.vocab_size * self.width

    @property
    def parameters(self) -> int:
        """All trained numbers."""
        norms = self.width * (2 * self.num_layers + 1)
        if self.architecture == "qwen3":
            norms += 2 * self.num_layers * self.head_dim
        biases = self.num_layers * (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        extra = biases if self.architecture == "qwen2" else 0
        return self.matrix_parameters + norms + extra + (0 if self.tie_embeddings else self.vocab_size * self.width)

    def training_flop(self, tokens: int) -> float:
        """Floating-point operations to train on so many tokens: 6 per parameter and token, 12 LDT for attention.

        Kaplan et al. 2020, arXiv:2001.08361, table 1; causal masking is not credited.
        """
        attention = 12 * self.num_layers * self.num_heads * self.head_dim * self.context_length
        return tokens * (6.0 * self.matrix_parameters + attention)
