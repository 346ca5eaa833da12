"""A text larger than the memory that there is for it: gathered, compared, encoded and read back."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MEGABYTE = 2**20
ALLOWED = 24 * MEGABYTE  # beside what the process held before the text
TEXT = 28 * MEGABYTE

CODE = """
import json, re, resource, sys
from pathlib import Path

from trivium.config import resolve
from trivium.phases.pretrain import ECHOED_TOKENS, some_text, text_rows
from trivium.text import planning, shards
from trivium.text.corpus import load_documents
from trivium.text.schemas import quiet
from trivium.text.tokenizer import train

shards._CHARACTERS_AT_ONCE = 200_000
planning._BLOCK = 2**13
folder, allowed = Path(sys.argv[1]), int(sys.argv[2])
recipe = resolve({"model": {"context_length": 256}})

def learn(name):
    data = resolve({"data": {"text": [str(folder / name)]}}).data
    corpus = load_documents(data, 0, quiet, folder / "texts")
    some = corpus.train[:: -(-corpus.train.size // 200_000)]
    tokenizer = train((document.text for document in some), vocab_size=400)
    texts = (document.text for document in corpus.train)
    shard = shards.write(texts, tokenizer, folder / "shards", key=corpus.train.fingerprint)
    some_text(shard, ECHOED_TOKENS)
    rows = text_rows(shard, tokenizer, recipe)
    count = rows.rows_per_epoch(0)
    for index in range(0, count, 50):
        rows.row(index)
    return corpus, shard, count

learn("small.txt")  # libraries and threads have come
held = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (held + allowed, held + allowed))
corpus, shard, rows = learn("large.txt")
try:
    whole = [document.text for document in corpus.train]
except MemoryError:
    whole = []
print(json.dumps({"bytes": shard.meta["bytes"], "documents": len(shard), "rows": rows, "whole": len(whole)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there can the system be asked to keep to a limit")
def test_a_file_larger_than_the_memory_that_may_be_taken_is_learned_from(tmp_path: Path) -> None:
    draw = np.random.Generator(np.random.Philox(1))
    words = np.array([f"{a}{b}{c}" for a in ("al", "be", "ko", "mi") for b in ("na", "ru", "ti") for c in "aeioumnst"])
    with (tmp_path / "large.txt").open("w") as file:
        while file.tell() < TEXT:
            file.write(" ".join(words[draw.integers(0, len(words), 4000)]) + ". ")  # one document, of one line
    with (tmp_path / "large.txt").open() as file:
        (tmp_path / "small.txt").write_text(file.read(400_000))
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), str(ALLOWED)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["bytes"] > ALLOWED
    assert found["rows"] > 10_000
    assert found["whole"] == 0  # that much text at once is too much indeed
