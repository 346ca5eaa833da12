"""What the report says in plain words: titles, captions, and what the figures mean. Figures in, sentences out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trivium.evaluate.measures import Measures
from trivium.report.charts import NUMBER, SHARE, Unit
from trivium.report.reading import PhaseLog, Story
from trivium.terms import read_term

GAP = 0.02  # a change of a share that is worth a sentence
LONGER = 1.25  # times as long: worth a sentence
WORSE = 0.10  # fall of the win rate along the way that its noise does not explain
FEW_END = 0.9

Told = tuple[str, str]  # title, caption


class Finding(NamedTuple):
    """A sentence about the run, and whether it is good, plain or a warning."""

    tone: str
    text: str


class Kind(NamedTuple):
    """A kind of phase: its place in the story and what goes on in it."""

    roman: str
    css: str
    title: str
    told: str


KINDS = {
    "pretrain": Kind(
        "I", "base", "Pretrain", "The model reads text with words missing and learns to fill them in: text → base."
    ),
    "member": Kind(
        "I",
        "base",
        "Pretrain a member",
        "Another model reads the same texts from a seed of its own: one of those that will score answers together.",
    ),
    "instruct": Kind(
        "II", "instruct", "Instruct", "It learns to do what is asked, from instructions and answers: base → instruct."
    ),
    "reward": Kind(
        "III",
        "aligned",
        "Reward model",
        "A copy of instruct learns from votes on pairs of answers to score an answer the way the voters would.",
    ),
    "imitate": Kind(
        "III",
        "aligned",
        "Imitate",
        "Before reinforcement, the preferred answers of pairs on file are imitated: what is never written is never "
        "rewarded.",
    ),
    "align": Kind(
        "III",
        "aligned",
        "Align",
        "Reinforcement learning: it writes answers, the reward model scores them, and what scores well becomes "
        "likelier. A price on KL holds it near instruct.",
    ),
}

UNITS: Mapping[str, Unit] = dict.fromkeys(("accuracy", "ended", "distinct", "signal", "win_rate"), SHARE)
EVALUATIONS: Mapping[str, Told] = {
    "bits_per_byte": (
        "Surprise at unseen text",
        "Bits per byte of held-out text: how many yes-or-no questions each letter still takes. Lower is better.",
    ),
    "accuracy": ("Unseen instructions", "Share of held-out instructions that are answered as expected."),
    "reward": ("Reward", "What the reward model thinks of the answers. It can be fooled: read it beside the win rate."),
    "kl": (
        "KL to instruct, nats",
        "How far the answers have moved from what instruct would write. Large values at little gain: it is gaming.",
    ),
    "length": ("Answer length, tokens", "If the reward rises only together with this, length is what it learned."),
    "ended": ("Answers that end", "Share that stops by itself within the limit. Should stay near 100%."),
    "distinct": ("Answers that differ", "Share that nobody else in the batch wrote. A fall means the model collapses."),
    "signal": (
        "Prompts that teach",
        "Share whose answers earn different rewards. Of equals nothing is learned.",
    ),
    "entropy": ("Entropy, nats", "How open each next token is. At zero it can say one thing only, and learns no more."),
    "judge_mark": (
        "Mark of the language model",
        "What the language model that judges says of the answers, 0 to 1. It is no person, and can be fooled too.",
    ),
    "gold": (
        "True worth",
        "What the judge who knows the truth gives the answers, 0 to 1, to the prompts compared blindly.",
    ),
    "judge_unread": ("Answers without a mark", "For which the language model that judges said nothing of use."),
    "win_rate": (
        "Win rate",
        "Blind comparisons with instruct on held-out prompts; at 50% nobody could tell them apart.",
    ),
}


def unit_of(measure: str) -> Unit:
    return UNITS.get(measure, NUMBER)


def told_of(phase: PhaseLog, measure: str, story: Story) -> Told:
    """Title and caption of an evaluation; a measure that is not known here keeps its own name."""
    if phase.name.startswith("reward") and measure == "accuracy":
        return (
            f"Agreement with {_votes(story)}",
            "Share of votes on unseen prompts that the reward model agrees with; 50% is a coin. Faint: while training.",
        )
    title, caption = EVALUATIONS.get(measure, (measure.replace("_", " ").capitalize(), "Measured along the way."))
    if measure == "win_rate" and story.judge_is_simulated:
        return f"{title} (simulated judge)", caption
    return title, caption


def loss_caption(phase: PhaseLog) -> str:
    """What the loss of a phase is, and whether to worry about it."""
    kind = phase.name.split("-")[0]
    if kind == "align":
        return (
            "Nats. It hovers near zero by construction and says little; watch the reward, KL and the win rate instead."
        )
    if kind == "reward":
        return "Nats per pair; 0.693 is a coin's. Faint: each step; line: smoothed."
    dots = " Dots: on unseen dialogues; when they rise while the line falls, it learns by heart." * (
        "loss" in phase.evaluations
    )
    return f"Nats per token: surprise at the right next token. Faint: each step; line: smoothed.{dots}"


def _votes(story: Story) -> str:
    return f"{story.votes_are} votes".strip()


def findings(story: Story) -> list[Finding]:
    """What the examination showed, phase by phase, good and bad."""
    found = story.measures
    told: list[Finding] = []
    if "base" in found:
        told.append(_language(found["base"]))
    if "instruct" in found:
        told.append(_instructions(found))
    if story.rewards:
        told += _reward(story.rewards[-1][1], story)
    if "aligned" in found:
        told += [*_preference(found["aligned"], story), *_price(found)]
    told += [Finding("warn", ended) for number, ending in story.endings if (ended := _ended(number, ending))]
    terms = [read_term(text) for text in story.recipe.align.rewards]
    told += [Finding("plain", _opinion(term.argument)) for term in terms if term.kind == "judge"]
    return told + [one for phase in story.phases for one in _over_optimised(phase)]


def _language(base: Measures) -> Finding:
    filled = f" and fills {base['blank_accuracy']:.1%} of held-out blanks" if "blank_accuracy" in base else ""
    return Finding(
        "plain",
        f"Base needs {base['bits_per_byte']:.2f} bits for each byte of unseen text (8 without any knowledge){filled}.",
    )


def _instructions(found: Measures) -> Finding:
    after = found["instruct"]["instruction_accuracy"]
    before = f"; base did {found['base']['instruction_accuracy']:.1%}" if "base" in found else ""
    return Finding("good" if after >= 0.5 else "plain", f"Instruct does {after:.1%} of unseen instructions{before}.")


def _reward(report: Measures, story: Story) -> list[Finding]:
    ceiling = f", where {report['ceiling']:.1%} is the most that is possible" if report.get("ceiling") else ""
    told = [
        Finding(
            "plain",
            f"The reward model agrees with {report['accuracy']:.1%} of {report['pairs']:,} held-out {_votes(story)}"
            f"{ceiling}.",
        )
    ]
    rivals = {"a coin": 0.5, "the rule “the longer answer wins”": report["longer_wins"]}
    name, rate = max(rivals.items(), key=lambda rival: rival[1])
    if report["accuracy_low"] <= rate:
        told.append(Finding("warn", f"It may be no better than {name} ({rate:.1%}). More votes would help."))
    return told


def _preference(aligned: Measures, story: Story) -> list[Finding]:
    if aligned.get("win_rate") is None:
        return [Finding("plain", "Nobody has compared aligned with instruct yet; `trivium studio` asks people.")]
    rate, low, high = aligned["win_rate"], aligned["win_rate_low"], aligned["win_rate_high"]
    judge = "the simulated judge" if story.judge_is_simulated else "the judge"
    counted = f"{rate:.1%} of {aligned['comparisons']:,} blind comparisons (95% interval: {low:.1%} to {high:.1%})"
    if low > 0.5:
        return [Finding("good", f"Asked to choose between aligned and instruct, {judge} takes aligned in {counted}.")]
    if high < 0.5:
        return [Finding("warn", f"Alignment made it worse: {judge} takes aligned in only {counted}.")]
    return [Finding("warn", f"{judge.capitalize()} takes aligned in {counted}; chance alone could do that.")]


def _price(found: Measures) -> list[Finding]:
    """What alignment changed that nobody asked for."""
    ours, told = found["aligned"], []
    theirs = found.get("instruct", {})
    if theirs and theirs["instruction_accuracy"] - ours["instruction_accuracy"] > GAP:
        lost = f"{theirs['instruction_accuracy']:.1%} to {ours['instruction_accuracy']:.1%}"
        told.append(Finding("warn", f"Alignment cost some obedience: instructions done fell from {lost}."))
    before, after = ours.get("instruct_mean_length"), ours.get("mean_length")
    if before and after and not 1 / LONGER < after / before < LONGER:
        how = "longer" if after > before else "shorter"
        told.append(
            Finding("plain", f"Answers became {how}: {before:.0f} to {after:.0f} tokens; part of the gain may be that.")
        )
    if ours.get("ended") is not None and ours["ended"] < FEW_END:
        told.append(Finding("warn", f"{1 - ours['ended']:.1%} of its answers do not end by themselves."))
    return told


def _ended(number: int, ending: Measures) -> str:
    """Why reinforcement ended before its time, and what was kept; empty when its last step was."""
    kept = f"step {ending['kept']:,}" if ending["kept"] else "what it began with"
    if ending["reason"]:
        return f"In round {number} reinforcement ended at step {ending['ended']:,}: {ending['reason']}. Kept is {kept}."
    if ending["kept"] != ending["ended"]:
        return f"In round {number} the last step was worse than an earlier one: kept is {kept}."
    return ""


def _opinion(where: str) -> str:
    address, _, model = where.partition(" ")
    return f"Part of the reward is the opinion of a language model, {model.strip()} at {address}; no person gave it."


def _over_optimised(phase: PhaseLog) -> list[Finding]:
    """Whether the reward rose while the judge came to disagree."""
    wins, rewards = phase.evaluations.get("win_rate", []), phase.evaluations.get("reward", [])
    if not wins or not rewards:
        return []
    step, best = max(wins, key=lambda point: point[1])
    last = wins[-1][1]
    then = dict(rewards).get(step)
    if best - last < WORSE or then is None or rewards[-1][1] <= then:
        return []
    return [
        Finding(
            "warn",
            f"In {phase.name} the reward went on rising after step {step:,} while the win rate of the simulated judge "
            f"fell from {best:.0%} to {last:.0%}: the reward is being gamed.",
        )
    ]


def reward_rows(report: Measures, story: Story) -> list[tuple[str, str, str]]:
    """The reward report's figures: name, value, what it means."""
    rows = [
        (
            f"agrees with {_votes(story)}",
            f"{report['accuracy']:.1%} ({report['accuracy_low']:.1%} to {report['accuracy_high']:.1%})",
            f"Of {report['pairs']:,} held-out pairs, how often it prefers what the voter preferred; 95% interval.",
        )
    ]
    if report.get("ceiling"):
        rows.append(
            (
                f"ceiling of {_votes(story)}",
                f"{report['ceiling']:.1%}",
                "Voters err. This is the most that even the truth would reach against such votes.",
            )
        )
    if curve := report.get("curve"):
        rows.append(
            (
                "more votes",
                f"{100 * curve['gain']:+.1f} points",
                f"What {curve['votes']:,} more would buy, if they buy what the last half bought: "
                f"{100 * curve['gain_low']:+.1f} to {100 * curve['gain_high']:+.1f}.",
            )
        )
    if len(members := report.get("members") or []) > 1:
        rows.append(
            (
                "its members alone",
                f"{min(members):.1%} to {max(members):.1%}",
                f"{len(members)} models score together; their margins differ by {report['spread']:.2f} on average.",
            )
        )
    rows += [
        (
            "the longer wins",
            f"{report['longer_wins']:.1%}",
            "What a ruler would reach. It must be well below the first.",
        ),
        (
            "calibration error",
            f"{report['ece']:.3f}",
            "When it is 80% sure, is it right 8 times of 10? 0 is perfect; above 0.1, do not trust its margins.",
        ),
        (
            "pull of length",
            f"{pull:+.2f}" if (pull := report["length_correlation"]) is not None else "cannot be told",
            "Correlation of its score with length, at equal quality. Near 0: it looks at the words, not their number.",
        ),
    ]
    return rows


def minutes(seconds: float) -> str:
    """`8 s`, `4 min 12 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(value: float) -> str:
    """`950`, `20.3k`, `5.1M`, `1.20B`."""
    for size, letter, digits in ((1e9, "B", 2), (1e6, "M", 1), (1e3, "k", 1)):
        if value >= size:
            return f"{value / size:.{digits}f}{letter}"
    return f"{value:.0f}"


def visible(text: str) -> str:
    """What a model wrote, with control characters as their pictures: HTML has no place for them."""
    pictures = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
    return text.encode("utf-8", "replace").decode().translate(pictures)


def shown_models(names: Sequence[str]) -> list[str]:
    """Base, instruct, aligned, then later rounds as they came."""
    order = {"base": 0, "instruct": 1, "aligned": 2}
    return sorted(dict.fromkeys(names), key=lambda name: order.get(name, 3))
