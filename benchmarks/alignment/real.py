"""Real preferences: a reward model over a base that was pretrained here, beside the rule that the longer wins."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trivium.config import Settings, merge
from trivium.errors import DataError
from trivium.feedback.store import LabelledPair
from trivium.story.collecting import collect_votes
from trivium.story.opening import open_story
from trivium.story.stages import make_base, make_instruct
from trivium.story.trusting import make_reward

Record = dict[str, Any]


class Source(NamedTuple):
    text: tuple[str, ...]
    answers: str
    pairs: str


NAMES = {
    "pref_convarg": Source(("pre_wikitext2_valid", "pre_chilit"), "sft_chitchat", "pref_convarg"),
    "pref_chitchat_style": Source(("pre_african_storybook", "pre_chilit"), "sft_chitchat", "pref_chitchat_style"),
    "pref_blimp": Source(("pre_african_storybook", "pre_chilit"), "sft_chitchat", "pref_blimp"),
}
MINUTES = 12.0  # of the whole run, of which phases I and II take their share
QUICK: Settings = {
    "compute": {"compile": False},
    "model": {"vocab_size": 600, "num_layers": 1, "width": 32, "mlp_width": 64, "context_length": 128},
    "pretrain": {"steps": 5},
    "instruct": {"steps": 5},
    "reward": {"steps": 5},
}


def try_pairs(out: Path, data: Path, name: str, *, quick: bool) -> Record:
    """Text → base → instruct → a reward model of the file's pairs; how often it agrees with held-out ones.

    raises  DataError when the data is not there
    """
    source = NAMES[name]
    if not (data / source.pairs / "train.jsonl.gz").exists():
        raise DataError(f"{data}: has no {source.pairs}/train.jsonl.gz; name the folder that holds it")
    place = out / "trials" / f"real-{name}"
    flags: Settings = {
        "data": {
            "text": tuple(str(data / text / "docs.jsonl.gz") for text in source.text[: 1 if quick else None]),
            "answers": (str(data / source.answers / "train.jsonl.gz"),),
            "pairs": (str(data / source.pairs / "train.jsonl.gz"),),
            "pairs_held_out": (str(data / source.pairs / "valid.jsonl.gz"),),
            "bad_rows": "skip",  # some of pref_blimp's pairs are twice the same sentence
        },
        "reward": {"learning_curve": False},
        "align": {"gate": False},
    }
    started = (place / "recipe.toml").exists()
    with open_story(
        place if started else None,
        out=None if started else place,
        minutes=None if started else 0.2 if quick else MINUTES,
        flags={} if started else merge(flags, QUICK if quick else {}),
    ) as teller:
        make_base(teller)
        make_instruct(teller)
        round = teller.run.round(1)
        votes = collect_votes(teller, round)
        make_reward(teller, round, votes)
        report = json.loads(round.reward_report.read_bytes())
    return {
        "accuracy": report["accuracy"],
        "low": report["accuracy_low"],
        "high": report["accuracy_high"],
        "longer_wins": report["longer_wins"],
        "longer_text_wins": longer_text_wins(votes.held_out),
        "ece": report["ece"],
        "pairs": report["pairs"],
    }


def longer_text_wins(pairs: Sequence[LabelledPair]) -> float:
    """How often the answer of more characters is the preferred one; equally long ones count half."""
    decided = [pair for pair in pairs if pair.preference != 0.5]
    gaps = [(len(pair.first) - len(pair.second)) * (pair.preference - 0.5) for pair in decided]
    return sum((gap > 0) + 0.5 * (gap == 0) for gap in gaps) / len(gaps)
