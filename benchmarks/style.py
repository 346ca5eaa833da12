"""In which voice a run's models answer after each phase: friendly, formal, witty, or none of the known replies.

    trivium run recipes/chitchat.toml --data.folder DATA --minutes 15 --out runs/chitchat
    python benchmarks/style.py runs/chitchat DATA [--json] [--quick]

The prompts are held out: those of pref_chitchat_style/valid (new phrasings) and valid_new_intents (new questions to
phase III). A reply that is literally one of a voice's replies counts as that voice; of the rest, a small classifier
(style_classifier.py) says which voice they are nearest to, and its own accuracy on unseen replies stands beside it.
"""

import argparse
import gzip
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

from benchmarks.style_classifier import NEW_INTENTS_FILE, STYLE_FILES, VOICES, StyleClassifier
from trivium.errors import TriviumError
from trivium.evaluate.tasks import reply_to
from trivium.feedback.agreement import wilson_interval
from trivium.generate.sampling import Sampling, stream_seed
from trivium.records import Message
from trivium.runs import read_run
from trivium.shelf import is_done, open_model

OTHER = "other"


def prompts_of(path: Path) -> list[tuple[Message, ...]]:
    """The different prompts of a preference file, in their order."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line)["prompt"] for line in lines]
    return list(dict.fromkeys(tuple(Message(turn["role"], turn["content"]) for turn in row) for row in rows))


def voices(replies: Sequence[str], classifier: StyleClassifier) -> dict[str, object]:
    """Shares of the replies that are exactly a voice's, and shares by the classifier."""
    owners = [sorted(classifier.voices_of(reply)) for reply in replies]
    exact = Counter(found[0] if found else OTHER for found in owners)
    nearest = Counter(verdict.label for verdict in classifier.classify(list(replies)))
    low, high = wilson_interval(nearest["formal"], len(replies))
    return {
        "exact": {voice: exact[voice] / len(replies) for voice in (*VOICES, OTHER)},
        "classified": {voice: nearest[voice] / len(replies) for voice in VOICES},
        "formal_low": low,
        "formal_high": high,
        "prompts": len(replies),
    }


def measure(folder: Path, data: Path, *, quick: bool) -> dict[str, dict[str, object]]:
    run = read_run(folder)
    classifier = StyleClassifier.fit(data)
    stages = {"base": run.base, "instruct": run.instruct}
    stages |= {f"aligned {round.number}": round.aligned for round in run.rounds()}
    found: dict[str, dict[str, object]] = {}
    for name, stage in stages.items():
        if not is_done(stage):
            continue
        model, tokenizer = open_model(stage)
        for part, file in (("valid", STYLE_FILES[1]), ("new intents", NEW_INTENTS_FILE)):
            prompts = prompts_of(data / file)[: 100 if quick else None]
            seeds = [stream_seed(0, i) for i in range(len(prompts))]
            sampling = Sampling(temperature=1.0, max_new_tokens=64)
            replies = [reply.text for reply in reply_to(model, tokenizer, prompts, sampling, seeds=seeds)]
            found[f"{name}, {part}"] = voices(replies, classifier)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path, help="holds sft_chitchat and pref_chitchat_style")
    parser.add_argument("--quick", action="store_true", help="100 prompts of each file")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    try:
        found = measure(chosen.run, chosen.data, quick=chosen.quick)
    except TriviumError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps(found))
        return 0
    print(f"{'':<24}{'exactly a known reply, sampled at temperature 1':^48}{'formal by the classifier':>34}")
    print(f"{'':<24}" + "".join(f"{voice:>12}" for voice in (*VOICES, OTHER)) + f"{'share (95 %)':>34}")
    for name, row in found.items():
        exact, classified = row["exact"], row["classified"]
        assert isinstance(exact, dict)
        assert isinstance(classified, dict)
        shares = "".join(f"{exact[voice]:>12.1%}" for voice in (*VOICES, OTHER))
        print(f"{name:<24}{shares}{classified['formal']:>16.1%} ({row['formal_low']:.1%} to {row['formal_high']:.1%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
