"""Whether reinforcement still makes the model better: the reward beside blind comparisons, KL, length and endings.

A pure function of what was measured along the way, so that a run that goes on decides as one that was never stopped.
"""

from collections.abc import Sequence
from math import isfinite, sqrt

from trivium.config import WatchConfig
from trivium.train.phase import Measured, Verdict

SURE = 1.96  # standard errors of a 95 % interval
ROUNDING = 1e-9  # .71 less .61 is a fall of .1 too
EVEN = 0.5  # the win rate of the model that reinforcement starts from, against itself


def watch(seen: Sequence[Measured], settings: WatchConfig, *, comparisons: int = 100) -> Verdict:
    """What to keep so far, and why to stop.

    seen         the evaluations in their order, the first before any step: reward, kl, length, ended, distinct, and
                 win_rate where somebody judges
    comparisons  of which each win rate is; of few, chance alone makes it fall far, and only more than that counts
    """
    chance = SURE * EVEN / sqrt(max(1, comparisons))
    settings = settings.model_copy(update={"fall": max(settings.fall, chance)})
    sound = [one for one in seen if not fault(one, seen[0], settings)]
    best = best_of(sound)
    worse = [one for one in seen if one.step > best and is_worse(one, seen, best, settings)]
    keep = best if worse and worse[-1] == seen[-1] else (seen[-1].step if seen else 0)
    lately = seen[-settings.patience :]
    if not settings.stop or len(lately) < settings.patience or not all(one in worse for one in lately):
        return Verdict(best, keep, "")
    return Verdict(best, keep, reason(seen, best, settings))


def best_of(sound: Sequence[Measured]) -> int:
    """The step whose answers are best, the first of equals; where nobody judges, the last that is sound; 0: none.

    By what the judge gives on average where he gives marks, which chance moves less than the share of comparisons won.
    """
    judged = [one for one in sound if "win_rate" in one.found]
    if judged:
        best = max(judged, key=lambda one: one.found.get("gold", one.found["win_rate"]))
        return best.step if best.found["win_rate"] > EVEN else 0
    return sound[-1].step if sound else 0


def is_worse(one: Measured, seen: Sequence[Measured], best: int, settings: WatchConfig) -> bool:
    """Than the best: by a fault of its own, or because its answers lose."""
    fallen = "win_rate" in one.found and win_rate_at(seen, best) - one.found["win_rate"] > settings.fall - ROUNDING
    return fallen or bool(fault(one, seen[0], settings))


def win_rate_at(seen: Sequence[Measured], step: int) -> float:
    return next((one.found["win_rate"] for one in seen if one.step == step), EVEN)


def fault(one: Measured, first: Measured, settings: WatchConfig) -> str:
    """What is wrong with the answers, whoever judges them; empty when nothing is.

    first  what was wrong then already is not the doing of reinforcement
    """
    found, start = one.found, max(1.0, first.found.get("length", 1.0))
    if lost := [name for name, value in found.items() if not isfinite(value)]:
        return f"its {lost[0]} is no number any more"
    if (ended := found.get("ended", 1.0)) < settings.ended <= first.found.get("ended", 1.0):
        return f"only {ended:.0%} of its answers end (watch.ended = {settings.ended:g})"
    if (distinct := found.get("distinct", 1.0)) < settings.distinct <= first.found.get("distinct", 1.0):
        return f"only {distinct:.0%} of its answers differ (watch.distinct = {settings.distinct:g})"
    if (length := found.get("length", start)) > settings.longer * start:
        return f"its answers grew from {start:.0f} to {length:.0f} tokens (watch.longer = {settings.longer:g})"
    if (kl := found.get("kl", 0.0)) > settings.kl:
        return f"it is {kl:.1f} nats from where it started (watch.kl = {settings.kl:g})"
    return ""


def reason(seen: Sequence[Measured], best: int, settings: WatchConfig) -> str:
    last = seen[-1]
    if told := fault(last, seen[0], settings):
        return told
    then = next((one.found for one in seen if one.step == best), seen[0].found)
    rate, now = win_rate_at(seen, best), last.found["win_rate"]
    told = f"the win rate fell from {rate:.0%} at step {best} to {now:.0%} (watch.fall = {settings.fall:.2g})"
    before, after = then.get("reward", 0.0), last.found.get("reward", 0.0)
    if after < before:
        return told
    return f"{told} while the reward rose from {before:.2f} to {after:.2f}: it is being gamed"


def most_fooled(rewards: Sequence[float], golds: Sequence[float], count: int) -> list[int]:
    """Which answers stand highest by their reward and lowest by the truth, the widest apart first.

    returns  at most `count` indices, of answers in the upper half of the rewards and the lower half of the truth
    """
    by_reward, by_gold = ranks(rewards), ranks(golds)
    half = (len(rewards) - 1) / 2
    found = [i for i in range(len(rewards)) if by_reward[i] > half > by_gold[i]]
    return sorted(found, key=lambda i: by_gold[i] - by_reward[i])[:count]


def ranks(values: Sequence[float]) -> list[float]:
    """0 for the lowest; equals share the mean of their places."""
    ordered = sorted(values)
    first = {value: i for i, value in reversed(list(enumerate(ordered)))}
    last = {value: i for i, value in enumerate(ordered)}
    return [(first[value] + last[value]) / 2 for value in values]
