"""Model folders as transformers writes them, tiny and random, of each sort that can be gone on from."""

from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers

from trivium.worlds import tinyworld

WORDS = (  # the expression of Qwen2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (  # as published, without tools
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- endif %}{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}{{- 'Today: ' + date_string + '\\n\\n' }}"
    "{{- system_message }}{{- '<|eot_id|>' }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>'"
    " }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
QWEN_TOKENS = {
    **dict.fromkeys(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], True),
    **dict.fromkeys(["<think>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"], False),  # as published
}
LLAMA_TOKENS = dict.fromkeys(
    ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], True
)
SHAPE = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500.0}
SORTS: dict[str, dict[str, Any]] = {
    "qwen2, tied, padded": {"kind": "Qwen2", "rows": 400, "tie_word_embeddings": True},
    "qwen3, untied, sharded": {"kind": "Qwen3", "head_dim": 12, "tie_word_embeddings": False, "shard": "20KB"},
    "llama 3, bfloat16, stretched": {
        "kind": "Llama",
        "dtype": torch.bfloat16,
        "rope_parameters": {**ROPE, "original_max_position_embeddings": 64},
        "tie_word_embeddings": False,
    },
    "llama without a template, tied, linear": {
        "kind": "Llama",
        "template": None,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        "tie_word_embeddings": True,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5,
    },
}


@cache
def learned(llama: bool) -> str:
    """A vocabulary of 380 tokens with Qwen's or Llama 3's control tokens, as tokenizer.json has it."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    control = LLAMA_TOKENS if llama else QWEN_TOKENS
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=380 - len(control), initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([tinyworld.story(0, i, held_out=False) for i in range(60)], trainer)
    for name, special in control.items():
        backend.add_tokens([AddedToken(name, special=special, normalized=False)])
    if llama:
        begin = ("<|begin_of_text|>", backend.token_to_id("<|begin_of_text|>"))
        backend.post_processor = processors.TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    return backend.to_str()


def write_tokenizer(folder: Path, *, llama: bool, template: str | None) -> None:
    ends = ("<|eot_id|>" if template else "<|end_of_text|>") if llama else "<|im_end|>"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(learned(llama)),
        bos_token="<|begin_of_text|>" if llama else None,
        eos_token=ends,
        pad_token=None if llama else "<|endoftext|>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def write_folder(
    folder: Path,
    *,
    kind: str = "Qwen3",
    rows: int = 380,
    dtype: torch.dtype = torch.float32,
    shard: str = "5GB",
    template: str | None = "its own",
    **shape: Any,
) -> Path:
    """A model with nothing at zero or one in it, and its tokenizer.

    rows  of the embedding; of tokens there are 380
    """
    transformers.logging.disable_progress_bar()
    config = getattr(transformers, f"{kind}Config")(vocab_size=rows, **{**SHAPE, **shape})
    torch.manual_seed(1)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    llama = kind == "Llama"
    write_tokenizer(folder, llama=llama, template=template and (LLAMA3 if llama else CHATML))
    return folder
