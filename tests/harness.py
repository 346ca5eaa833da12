"""lm-eval on questions of our own, and what it has to find."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trivium.model.transformer import Transformer
from trivium.text.tokenizer import Tokenizer

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
CHOOSING = "output_type: multiple_choice\ndoc_to_choice: [mat, cat]\ndoc_to_target: 0\n"
QUESTIONS = ("The cat sat on the", "There is no dog, but a", "Once more it was Ada's", "Under the tree lay")


def harness_finds(
    folder: Path, told: Sequence[str], rows: Sequence[Mapping[str, str]], tasks: Mapping[str, str]
) -> dict[str, Any]:
    """Results by task.

    told   the command's arguments before its tasks, such as --model and --model_args
    rows   one for each question
    tasks  what each task adds to TASK, by its name
    """
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, rest in tasks.items():
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data) + rest)
    command = [sys.executable, "-m", "lm_eval", "run", *told, "--tasks", ",".join(tasks)]
    command += ["--include_path", str(folder), "--output_path", str(folder / "out")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder), "OPENAI_API_KEY": "secret"}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = (folder / "out").rglob("results_*.json")
    results: dict[str, Any] = json.loads(found.read_text())["results"]
    return results


def continued(model: Transformer, tokenizer: Tokenizer, text: str, word: str) -> float:
    """Nats of a word after a text."""
    before, ids = tokenizer.encode(text), tokenizer.encode(text + word)
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = model(tokens, torch.arange(len(ids))[None], torch.zeros_like(tokens))[0]
    each = logits.log_softmax(-1)[:-1].gather(1, tokens[0, 1:, None])
    return float(each[len(before) - 1 :].sum())


def mats_preferred(model: Transformer, tokenizer: Tokenizer) -> float:
    """The share of the questions after which the first of the two choices is the more probable one."""
    right = [
        continued(model, tokenizer, question, " mat") > continued(model, tokenizer, question, " cat")
        for question in QUESTIONS
    ]
    return sum(right) / len(right)
