"""GGUF files, as llama.cpp reads them: a model and its vocabulary into one file, and back again.

Pure mapping of names, layouts and numbers. How a text is cut into words is said by text/llama_cpp.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivium.errors import CheckpointError, ConfigError
from trivium.model.rope import stretched
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer

Numbers = Literal["f32", "f16", "q8_0"]
FILE_TYPES: dict[Numbers, int] = {"f32": 0, "f16": 1, "q8_0": 7}  # llama.cpp's numbers for what most matrices are
MAGIC = b"GGUF"
BLOCK = 32  # numbers that share a scale in q8_0; a row that they do not divide stays in f16, as in llama.cpp
WORD, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # kinds of tokens

MOST_F16 = 65504.0
ROPE_FACTORS = "rope_freqs.weight"  # by which frequencies are divided, one by one
Array = NDArray[Any]


class Vocabulary(NamedTuple):
    """The words of a model as a GGUF file lists them: byte-level BPE."""

    tokens: list[str]  # by id, in GPT-2's visible stand-ins for bytes
    kinds: list[int]
    merges: list[str]  # "left right", the first learned first
    words: str  # llama.cpp's name for how texts are cut into words before merging
    begin: int  # the token that a text begins with
    begins: bool  # whether it is put there unasked
    turn_end: int  # what ends an answer
    pad: int
    blanks: tuple[int, int, int]  # prefix, suffix, middle of fill-in-the-blank
    template: str  # of chats, jinja2


def library() -> Any:
    """The library gguf; raises ConfigError when it is not installed."""
    try:
        import gguf
    except ImportError:
        raise ConfigError("--to gguf: needs the library gguf; install it with pip install 'trivium[gguf]'") from None
    return gguf


def write(path: Path, model: Transformer, vocabulary: Vocabulary, *, numbers: Numbers, name: str) -> None:
    """One file that llama.cpp loads; `numbers` is what the matrices become, norms and biases stay f32.

    raises  CheckpointError when llama.cpp cannot compute this model
    """
    gguf = library()
    shape = model.config
    if len(shape.rope_scaling) == 4 and shape.architecture != "llama":
        raise CheckpointError(f"{name}: llama.cpp stretches positions by llama3's rule only in Llama; export --to hf")
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[numbers])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_shape(writer, gguf, shape)
    _write_vocabulary(writer, vocabulary, rows=shape.vocab_size)
    theirs = names_of(gguf, shape)
    for ours, tensor in model.state_dict().items():
        if not (ours == "lm_head.weight" and shape.tie_embeddings):
            kind = _kind(gguf, numbers, tuple(tensor.shape))
            laid = _laid_out(tensor.detach().float().cpu(), ours, shape).numpy()
            if kind == gguf.GGMLQuantizationType.F16 and np.abs(laid).max() > MOST_F16:
                raise CheckpointError(f"{name}: {ours} holds numbers too great for f16; export --type f32")
            writer.add_tensor(theirs(ours), gguf.quants.quantize(laid, kind), raw_dtype=kind)
    if len(shape.rope_scaling) == 4:
        writer.add_tensor(ROPE_FACTORS, rope_factors(shape).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _kind(gguf: Any, numbers: Numbers, shape: tuple[int, ...]) -> Any:
    kinds = gguf.GGMLQuantizationType
    if numbers == "f32" or len(shape) == 1:
        return kinds.F32
    return kinds.Q8_0 if numbers == "q8_0" and shape[-1] % BLOCK == 0 else kinds.F16


def names_of(gguf: Any, shape: ModelConfig) -> Callable[[str], str]:
    """The library's own map: layers.3.mlp.up_proj.weight → blk.3.ffn_up.weight"""
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == shape.architecture)
    names = gguf.get_tensor_name_map(architecture, shape.num_layers)

    def theirs(ours: str) -> str:
        prefix = "" if ours.startswith("lm_head") else "model."
        found: str = names.get_name(prefix + ours, try_suffixes=(".weight", ".bias"))
        return found

    return theirs


def _laid_out(tensor: Tensor, ours: str, shape: ModelConfig, *, back: bool = False) -> Tensor:
    """llama.cpp turns neighbours (2i, 2i+1) of a Llama's heads where we, and it in Qwen, turn (i, i + d/2)."""
    heads = {"q_proj": shape.num_heads, "k_proj": shape.num_kv_heads}.get(ours.split(".")[-2])
    if shape.architecture != "llama" or heads is None:
        return tensor
    halves = (heads, shape.head_dim // 2, 2) if back else (heads, 2, shape.head_dim // 2)
    return tensor.view(*halves, -1).transpose(1, 2).reshape(tensor.shape).contiguous()


def rope_factors(shape: ModelConfig) -> Tensor:
    """(d / 2,) float32: by how much each frequency turns slower."""
    even = torch.arange(0, shape.head_dim, 2, dtype=torch.float32)
    frequencies = shape.rope_theta ** -(even / shape.head_dim)
    return frequencies / stretched(frequencies, shape.rope_scaling)


def _write_shape(writer: Any, gguf: Any, shape: ModelConfig) -> None:
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.mlp_width)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    if len(shape.rope_scaling) == 1:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.rope_scaling[0])


def _write_vocabulary(writer: Any, vocabulary: Vocabulary, *, rows: int) -> None:
    """rows  of the embedding; those beyond the tokens are padding"""
    padding = range(len(vocabulary.tokens), rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.words)
    writer.add_token_list([*vocabulary.tokens, *(f"[PAD{id}]" for id in padding)])
    writer.add_token_types([*vocabulary.kinds, *(UNUSED for _ in padding)])
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.begin)
    writer.add_add_bos_token(vocabulary.begins)
    writer.add_eos_token_id(vocabulary.turn_end)
    writer.add_eot_token_id(vocabulary.turn_end)
    writer.add_pad_token_id(vocabulary.pad)
    for name, id in zip(("pre", "suf", "mid"), vocabulary.blanks, strict=True):
        writer.add_uint32(f"tokenizer.ggml.fim_{name}_token_id", id)
    writer.add_chat_template(vocabulary.template)


def is_one(path: Path) -> bool:
    """Whether a file begins as GGUF files do."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class Contents(NamedTuple):
    """What stands in a file, by name."""

    fields: dict[str, Any]
    tensors: dict[str, Array]  # float32, in their shape


def read(path: Path) -> Contents:
    """Everything in a file, every number in float32; raises CheckpointError when it is no GGUF file."""
    gguf = library()
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, OSError) as reason:
        raise CheckpointError(f"{path}: is not a whole GGUF file ({reason}); export it again") from reason
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        for tensor in reader.tensors
    }
    return Contents(fields, tensors)


def model_of(contents: Contents, scaling: tuple[float, ...]) -> Transformer:
    """The decoder that a file describes, from what the file says alone.

    scaling  how positions are stretched, when the file says so by factors: they must be the same
    raises   CheckpointError when a tensor is missing, has another shape, or none asks for it
    """
    fields, tensors = contents
    architecture = fields["general.architecture"]

    def told(name: str) -> Any:
        return fields[f"{architecture}.{name}"]

    linear = (float(fields[f"{architecture}.rope.scaling.factor"]),) if _is_linear(fields) else ()
    shape = ModelConfig(
        architecture=architecture,
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        num_layers=told("block_count"),
        width=told("embedding_length"),
        num_heads=told("attention.head_count"),
        num_kv_heads=told("attention.head_count_kv"),
        head_dim=told("attention.key_length"),
        mlp_width=told("feed_forward_length"),
        context_length=told("context_length"),
        rope_theta=told("rope.freq_base"),
        rope_scaling=scaling if ROPE_FACTORS in tensors else linear,
        norm_eps=told("attention.layer_norm_rms_epsilon"),
        tie_embeddings="output.weight" not in tensors,
    )
    model, theirs = Transformer(shape), names_of(library(), shape)
    wanted = {name: theirs(name) for name, _ in model.named_parameters()}
    found = {name: tuple(array.shape) for name, array in tensors.items() if name != ROPE_FACTORS}
    expected = {wanted[name]: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if found != expected:
        differing = min(name for name, _ in found.items() ^ expected.items())
        raise CheckpointError(f"{differing}: is not as the file's own shape has it; export it again")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = torch.from_numpy(np.array(tensors[wanted[name]]))
            parameter.copy_(_laid_out(tensor, name, shape, back=True))
    if ROPE_FACTORS in tensors:
        torch.testing.assert_close(torch.from_numpy(np.array(tensors[ROPE_FACTORS])), rope_factors(shape))
    return model


def _is_linear(fields: dict[str, Any]) -> bool:
    return fields.get(f"{fields['general.architecture']}.rope.scaling.type") == "linear"


def vocabulary_of(contents: Contents) -> Vocabulary:
    """The words that a file lists; padding is left out."""
    fields = {name.removeprefix("tokenizer.ggml."): value for name, value in contents.fields.items()}
    known = sum(kind != UNUSED for kind in fields["token_type"])
    return Vocabulary(
        tokens=fields["tokens"][:known],
        kinds=fields["token_type"][:known],
        merges=fields.get("merges", []),
        words=fields["pre"],
        begin=fields["bos_token_id"],
        begins=fields["add_bos_token"],
        turn_end=fields["eos_token_id"],
        pad=fields["padding_token_id"],
        blanks=tuple(fields[f"fim_{name}_token_id"] for name in ("pre", "suf", "mid")),
        template=fields["tokenizer.chat_template"],
    )
