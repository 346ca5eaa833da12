"""A run's story → the page: what goes where. Words are in words.py, lines in charts.py, looks in page.css."""

from typing import Any, NamedTuple

from markupsafe import Markup

from trivium.config import Recipe
from trivium.evaluate.measures import Measures
from trivium.feedback.agreement import wilson_interval
from trivium.report import charts, results, words
from trivium.report.charts import NUMBER, SHARE, Mark, Series, Unit
from trivium.report.paper import write_on_paper
from trivium.report.reading import PhaseLog, Story
from trivium.wording import counted


class Figure(NamedTuple):
    """Lines over the steps of a phase, and what they tell."""

    title: str
    told: str
    label: str  # what a screen reader says
    lines: list[Series]  # the first is never empty
    unit: Unit
    guides: list[tuple[str, float]]  # heights to compare with

    @property
    def svg(self) -> Markup:
        return charts.line_chart(self.label, self.lines, self.unit, guides=self.guides)


class Chapter(NamedTuple):
    """One phase of the journal."""

    name: str
    kind: words.Kind
    title: str
    facts: list[str]
    figures: list[Figure]


class RewardSection(NamedTuple):
    title: str
    rows: list[tuple[str, str, str]]
    track: Markup
    has_ceiling: bool
    calibration: Markup
    mistaken: list[tuple[str, str, str]]  # prompt, preferred, what it scores higher


def render(story: Story) -> str:
    """The whole page as HTML; everything that came from outside is escaped."""
    return write_on_paper(
        "page.html.j2",
        "page.css",
        story=story,
        facts=results.facts(story),
        road=results.road(story),
        findings=words.findings(story),
        columns=[(name, meaning) for _, name, meaning, _ in results.COLUMNS],
        results=results.results(story),
        kinds=results.kinds(story.measures),
        chapters=[chapter(phase, story) for phase in story.phases],
        openings=openings(story),
        asked=asked(story),
        answering=answering(story),
        rewards=[reward_section(number, report, story) for number, report in story.rewards],
        fooled=fooled(story),
        settings=settings(story.recipe),
    )


def chapter(phase: PhaseLog, story: Story) -> Chapter:
    base, _, place = phase.name.partition("-")
    number, _, member = place.partition("-")
    kind = words.KINDS.get(base, words.Kind("", "text", phase.name, "A phase that this report does not know by name."))
    which = "" if not number.isdigit() else f" {int(number)}" if base == "member" else f", round {int(number)}"
    which += f", member {member}" if member else ""
    steps = counted(phase.steps, "step") if phase.is_done else f"{phase.steps:,} of {phase.planned:,} steps"
    told = [
        steps,
        words.minutes(phase.seconds),
        f"{words.count(phase.tokens)} tokens",
    ]
    if phase.seconds:
        told.append(f"{words.count(phase.tokens / phase.seconds)} tokens/s")
    return Chapter(phase.name, kind, f"{kind.title}{which}", told, figures(phase, story))


def figures(phase: PhaseLog, story: Story) -> list[Figure]:
    """Evaluations that people care about first, then loss and learning rate."""
    apart = [name for name in phase.evaluations if name != "loss"]
    apart += [name for name in phase.columns if name in words.EVALUATIONS and name not in apart]
    drawn = [_evaluation(phase, name, story) for name in apart]
    if "win_rate" in apart:  # beside the reward, which it judges
        drawn.insert(1, drawn.pop(apart.index("win_rate")))
    if loss := phase.columns.get("loss"):
        held_out = Series("unseen", phase.evaluations.get("loss", []), "dots")
        lines = [Series("smoothed", charts.smooth(loss)), Series("each step", loss, "raw"), held_out]
        figure = Figure("Loss", words.loss_caption(phase), f"{phase.name}: loss by step", lines, NUMBER, [])
        drawn.insert(0 if phase.name.split("-")[0] != "align" else len(drawn), figure)
    if rate := phase.columns.get("learning_rate"):
        told = "As a share of its peak: it warms up, stays, and cools down."
        label = f"{phase.name}: learning rate by step"
        drawn.append(Figure("Learning rate", told, label, [Series("", rate)], SHARE, []))
    return drawn


def _evaluation(phase: PhaseLog, name: str, story: Story) -> Figure:
    title, told = words.told_of(phase, name, story)
    training = phase.columns.get(name, [])
    lines = [
        Series("", phase.evaluations.get(name) or charts.smooth(training)),
        Series("training", charts.smooth(training, share=0.08), "raw"),
    ]
    guides: list[tuple[str, float]] = []
    if name == "win_rate":
        guides.append(("no difference", 0.5))
    if name == "accuracy" and phase.name.startswith("reward"):
        guides.append(("a coin", 0.5))
        number = phase.name.split("-")[1]
        ceilings = [report.get("ceiling") for round, report in story.rewards if f"{round:03}" == number]
        guides += [("ceiling", ceiling) for ceiling in ceilings if ceiling]
    return Figure(title, told, f"{phase.name}: {title}", lines, words.unit_of(name), guides)


def reward_section(number: int, report: Measures, story: Story) -> RewardSection:
    marks = [
        Mark("longer", report["longer_wins"]),
        Mark("aligned", report["accuracy"], report["accuracy_low"], report["accuracy_high"]),
    ]
    if report.get("ceiling"):
        marks.append(Mark("ceiling", report["ceiling"]))
    bins = [
        (sure, right, *wilson_interval(round(right * pairs), pairs), pairs)
        for sure, right, pairs in report["by_margin"]
    ]
    return RewardSection(
        f"Round {number}",
        words.reward_rows(report, story),
        charts.track("; ".join(f"{name} {value}" for name, value, _ in words.reward_rows(report, story)[:3]), marks),
        bool(report.get("ceiling")),
        charts.calibration_chart("How sure the reward model is, beside how often it is right", bins),
        [(prompt, preferred, other) for prompt, preferred, other, _ in report.get("mistaken") or []],
    )


class Fooled(NamedTuple):
    title: str
    rows: list[tuple[str, str, str, str]]  # prompt, answer, reward, what the judge gives


def fooled(story: Story) -> list[Fooled]:
    """Of each round, the answers that its reward likes and the judge does not."""
    return [
        Fooled(
            f"Round {number}",
            [(one["prompt"], one["answer"], f"{one['reward']:+.2f}", f"{one['gold']:.2f}") for one in ending["fooled"]],
        )
        for number, ending in story.endings
        if ending.get("fooled")
    ]


def answering(story: Story) -> list[str]:
    return words.shown_models([sample.model for sample in story.samples])


def openings(story: Story) -> list[tuple[str, str]]:
    """Texts that only base went on with: their beginnings and what it wrote."""
    later = {sample.prompt for sample in story.samples if sample.model != "base"}
    return [(one.prompt, one.answer) for one in story.samples if one.model == "base" and one.prompt not in later]


def asked(story: Story) -> list[tuple[str, dict[str, str]]]:
    """Prompts that more than base answered, with the answer of each model."""
    answers: dict[str, dict[str, str]] = {}
    for sample in story.samples:
        answers.setdefault(sample.prompt, {})[sample.model] = sample.answer
    return [(prompt, said) for prompt, said in answers.items() if set(said) != {"base"}]


def settings(recipe: Recipe) -> list[tuple[str, list[tuple[str, str, str, bool]]]]:
    """The resolved recipe by section: key, value, what it is, and whether it differs from the default."""
    mine, usual = recipe.model_dump(mode="json"), Recipe().model_dump(mode="json")
    sections: list[tuple[str, list[tuple[str, str, str, bool]]]] = []
    alone = [key for key, value in mine.items() if not isinstance(value, dict)]
    sections.append(("", [_setting(key, mine, usual, recipe) for key in alone]))
    for name, section in mine.items():
        if isinstance(section, dict):
            owner = getattr(recipe, name)
            sections.append((name, [_setting(key, section, usual[name], owner) for key in section]))
    return sections


def _setting(key: str, mine: dict[str, Any], usual: dict[str, Any], owner: Any) -> tuple[str, str, str, bool]:
    value = mine[key]
    told = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
    return key, told or "–", type(owner).model_fields[key].description or "", value != usual[key]
