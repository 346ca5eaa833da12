"""The village keeps its laws: same seed, same text; told facts are true; the judge can tell good from bad."""

import os
import random
import subprocess
import sys
from itertools import pairwise

import pytest

from trivium.records import Dialogue, Message
from trivium.worlds.tinyworld import ALL, CHECKABLE, KINDS, OPEN, Task, exact_match, judge, prompts, story, task
from trivium.worlds.tinyworld.chance import is_held_out
from trivium.worlds.tinyworld.grammar import words
from trivium.worlds.tinyworld.hands import REQUESTS, SHARES, Hand, requested
from trivium.worlds.tinyworld.judge import WEIGHTS
from trivium.worlds.tinyworld.knowledge import OPPOSITES, SCALES, VERBS
from trivium.worlds.tinyworld.lexicon import BOYS, GIRLS, MENDINGS, PEOPLE, PLACES, THINGS
from trivium.worlds.tinyworld.speech import sense
from trivium.worlds.tinyworld.stories import LONGEST, PLOTS, SHORTEST, telling

STORIES = [telling(11, index) for index in range(1500)]
TASKS = [task(11, index) for index in range(4000)]
GOLDEN = 2683601440
HANDS: tuple[Hand, ...] = ("excellent", "plain", "poor")


FINGERPRINT = """
import zlib
from trivium.worlds.tinyworld import story, task
texts = [story(7, index) for index in range(200)]
texts += [message.content for index in range(200) for message in task(7, index).dialogue.messages]
print(zlib.crc32("\\n".join(texts).encode()))
"""


def prompt_text(asked: Task) -> str:
    return "\n".join(message.content for message in asked.dialogue.prompt)


def by_hand(kind: str, index: int, hand: Hand) -> Task:
    draft = requested(random.Random(f"{kind}:{index}"), kind, hand)
    messages = (Message("user", draft.turns[0]), Message("assistant", draft.turns[1]))
    return Task(Dialogue(messages, "test", (), kind), draft.facts)


def score(asked: Task, answer: str) -> float:
    return judge(asked, answer).score


def test_every_process_whatever_its_hash_seed_tells_the_same():
    """The golden number changes only when the village does; data cached under an older village is then stale."""
    for hash_seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert int(told.stdout) == GOLDEN


def test_seed_and_index_change_the_text_and_nothing_else_does():
    assert story(1, 2) == story(1, 2)
    assert len({story(seed, index) for seed in range(10) for index in range(100)}) == 1000


def test_stories_have_the_length_of_a_picture_book_page():
    assert all(SHORTEST <= len(told.text.split()) <= LONGEST for told in STORIES)


def test_stories_are_clean_english_on_the_surface():
    for told in STORIES:
        assert not set("{}\n") & set(told.text)
        assert "  " not in told.text
        assert told.text.count('"') % 2 == 0
        assert told.text.rstrip('"')[-1] in ".!?"
        for before, after in pairwise(words(told.text)):
            assert not (before == "a" and after[0] in "aeio"), told.text
            assert not (before == "an" and after[0] not in "aeiou"), told.text
            assert not before == after == "the", told.text


def test_every_plot_is_told_and_there_are_at_least_ten():
    assert {told.cast.plot for told in STORIES} == set(PLOTS)
    assert len(PLOTS) >= 10


def test_every_variant_of_every_beat_can_be_told():
    """A slot that no cast fills would raise here rather than once in a million stories."""
    for told in (telling(3, index) for index in range(3000)):
        assert told.text
    assert all(beat.variants for plot in PLOTS.values() for beat in plot.beats)


def test_there_are_more_than_a_billion_stories():
    """Conservatively: choices of the telling, hero, friend, thing and place; animals, looks, food, weather left out."""
    counts = []
    for plot in PLOTS.values():
        casts = len(PEOPLE) * min(len(GIRLS), len(BOYS)) * len(plot.things) * len(plot.places)
        counts.append(plot.tellings * casts)
    assert sum(counts) > 10**9
    assert min(counts) > 10**8


def test_hero_and_friend_never_share_a_pronoun():
    assert all((told.cast.hero in GIRLS) != (told.cast.friend in GIRLS) for told in STORIES)


def test_who_is_named_at_the_end_as_keeper_is_who_holds_the_thing():
    for told in STORIES:
        holder = told.facts.get(("holder", told.cast.thing))
        cast = told.cast
        assert holder in (cast.hero, cast.friend, cast.adult, cast.pet)
        for keeper in (cast.hero, cast.friend):
            for claim in (
                f"{keeper} kept the {cast.thing}",
                f"{keeper} has the {cast.thing}",
                f"{keeper} had the {cast.thing}",
            ):
                if told.text.rfind(claim) > len(told.text) * 0.8:
                    assert keeper == holder, told.text


def test_a_broken_thing_goes_to_the_trade_that_mends_it():
    for told in STORIES:
        if told.cast.plot == "mended":
            assert told.cast.job == MENDINGS[told.cast.thing].job
            assert f"the {told.cast.job}" in told.text


def test_a_story_names_its_central_thing_and_place_and_hero():
    for told in STORIES:
        hero, thing, place = told.cast.combination
        assert hero in told.text
        assert f" {thing}" in told.text
        assert place in told.text


def test_held_out_stories_and_training_stories_share_no_combination():
    held_out = [telling(11, index, held_out=True) for index in range(300)]
    assert all(is_held_out(*told.cast.combination) for told in held_out)
    assert not any(is_held_out(*told.cast.combination) for told in STORIES)
    combinations = [(hero, thing, place) for hero in PEOPLE for thing in THINGS for place in PLACES]
    share = sum(is_held_out(*combination) for combination in combinations) / len(combinations)
    assert share == pytest.approx(0.1, abs=0.01)


def test_no_held_out_prompt_of_any_kind_is_ever_trained_on():
    trained = {prompt_text(task(1, index)) for index in range(20_000)}
    for kind in ALL:
        unseen = [prompt_text(task(1, index, held_out=True, kinds=[kind])) for index in range(40)]
        assert not trained.intersection(unseen), kind


def test_training_knows_every_opposite_verb_and_scale_that_may_be_asked():
    """Kinds that need knowledge hold out wordings, never the knowledge."""
    seen = " ".join(prompt_text(task(1, index, kinds=["opposite", "past", "compare"])) for index in range(6000))
    for known in (*(word for pair in OPPOSITES for word in pair), *(f"{verb.present} {verb.tail}" for verb in VERBS)):
        assert known in seen
    assert all(item in seen for scale in SCALES for item in scale.items)


def test_the_vocabulary_is_that_of_a_small_child():
    spoken = {word for told in STORIES for word in words(told.text)}
    spoken |= {word for asked in TASKS for message in asked.dialogue.messages for word in words(message.content)}
    assert 1300 <= len(spoken) <= 1700


def test_dialogues_are_short_alternate_and_end_with_the_assistant():
    for asked in TASKS:
        roles = [message.role for message in asked.dialogue.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert sum(len(message.content.split()) for message in asked.dialogue.messages) <= 90
        assert asked.dialogue.kind in KINDS


def test_two_thirds_of_instruction_can_be_checked_and_one_third_in_alignment():
    def share(asked: list[Task]) -> float:
        return sum(bool(one.dialogue.accepted) for one in asked) / len(asked)

    assert share(TASKS) == pytest.approx(0.65, abs=0.03)
    assert share([prompts(11, index) for index in range(2000)]) == pytest.approx(0.35, abs=0.04)


@pytest.mark.parametrize("kind", CHECKABLE)
def test_the_demonstrated_answer_is_accepted_and_gets_full_score(kind):
    for index in range(60):
        for held_out in (False, True):
            asked = task(5, index, held_out=held_out, kinds=[kind])
            assert asked.dialogue.accepted
            assert exact_match(asked.dialogue.answer, asked.dialogue.accepted)
            assert score(asked, asked.dialogue.answer) == pytest.approx(1.0)
            assert score(asked, "The moon.") < 0.7


def test_exact_match_forgives_case_space_and_the_last_full_stop_only():
    assert exact_match("  at the  MILL ", ("At the mill.",))
    assert not exact_match("At the mill, I think.", ("At the mill.",))
    assert not exact_match("", ("At the mill.",))


def test_what_the_passage_does_not_tell_is_not_in_it():
    for index in range(300):
        asked = task(5, index, kinds=["unsaid"])
        *passage, question = asked.dialogue.prompt[0].content.replace("\n", " ").split(". ")
        name = words(question)[-1] if question.startswith("Where") else None
        assert name is None or name not in words(". ".join(passage))


def test_open_answers_come_from_many_hands_in_the_stated_shares():
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert set(REQUESTS) == set(OPEN)
    scores = [score(asked, asked.dialogue.answer) for asked in TASKS if not asked.dialogue.accepted]
    assert sum(value > 0.9 for value in scores) / len(scores) == pytest.approx(0.30, abs=0.06)
    assert sum(value < 0.55 for value in scores) / len(scores) == pytest.approx(0.25, abs=0.10)


def test_excellent_beats_plain_beats_poor_on_average_and_in_95_of_100_pairs():
    won = {("excellent", "plain"): 0, ("plain", "poor"): 0}
    count = 0
    for kind in OPEN:
        averages = dict.fromkeys(HANDS, 0.0)
        for index in range(100):
            by = {hand: by_hand(kind, index, hand) for hand in HANDS}
            assert len({prompt_text(asked) for asked in by.values()}) == 1
            scores = {hand: score(asked, asked.dialogue.answer) for hand, asked in by.items()}
            averages = {hand: averages[hand] + scores[hand] / 100 for hand in HANDS}
            count += 1
            for better, worse in won:
                won[better, worse] += scores[better] > scores[worse]
        assert averages["excellent"] > averages["plain"] + 0.1 > averages["poor"] + 0.2, kind
    assert all(wins >= 0.95 * count for wins in won.values()), won


@pytest.mark.parametrize("kind", OPEN)
def test_longer_is_not_better_and_neither_is_saying_it_twice(kind):
    for index in range(20):
        asked = by_hand(kind, index, "excellent")
        answer = asked.dialogue.answer
        twice = f"{answer} {answer}"
        padded = f"{answer} The sun was over the roofs and the wind went up and down the long road of the village. " + (
            "Then the rain came from the hill and it was in every street and on every roof of every house. "
            "There was an old cart by the gate and a young tree by the wall."
        )
        assert score(asked, answer) > score(asked, padded)
        assert score(asked, answer) > score(asked, twice) + 0.1
        assert score(asked, answer) > score(asked, answer.split()[0]) + 0.3


def test_empty_answers_and_gibberish_score_lowest():
    for index in range(200):
        asked = prompts(3, index)
        poor = score(asked, asked.dialogue.answer)
        for nonsense in ("", "   ", "...", "glorp snark fip.", "xx yy zz xx yy zz"):
            assert score(asked, nonsense) <= 0.1
            assert score(asked, nonsense) < poor


@pytest.mark.parametrize("kind", OPEN)
def test_the_right_words_in_a_heap_are_worth_less_than_half(kind):
    heaps = []
    for index in range(20):
        asked = by_hand(kind, index, "excellent")
        heap = words(asked.dialogue.answer)
        random.Random(index).shuffle(heap)
        heaps.append(score(asked, " ".join(heap) + "."))
        assert heaps[-1] < score(asked, asked.dialogue.answer) - 0.15
    assert sum(heaps) / len(heaps) < 0.45


def test_the_village_understands_its_own_speech():
    assert all(sense(told.text) == 1.0 for told in STORIES[:300])
    assert all(sense(asked.dialogue.answer) > 0.8 for asked in TASKS[:600] if not asked.dialogue.accepted)
    assert sense("the the friend kite and and of") == 0.0


def test_a_rude_word_costs_all_kindness_and_a_heap_of_warm_ones_buys_none():
    asked = by_hand("greeting", 0, "excellent")
    assert judge(asked, asked.dialogue.answer).kind == 1.0
    assert judge(asked, asked.dialogue.answer + " Who cares?").kind == 0.0
    assert judge(asked, "Hello dear lovely glad happy kind friend.").kind == 0.0


def test_an_answer_without_its_end_token_or_full_stop_is_not_ended():
    asked = by_hand("greeting", 0, "excellent")
    answer = asked.dialogue.answer
    assert judge(asked, answer).score - judge(asked, answer, ended=False).score == pytest.approx(WEIGHTS["ended"])
    assert judge(asked, answer.rstrip(".!?")).ended == 0.0


def test_greeting_somebody_who_is_not_there_halves_the_truth():
    messages = (Message("user", "Hello, I am Tilda."), Message("assistant", ""))
    asked = Task(Dialogue(messages, "test", (), "greeting"), by_hand("greeting", 0, "plain").facts)
    asked = asked._replace(facts=asked.facts._replace(asked=(("tilda",), ("hello",))))
    assert judge(asked, "Hello, Tilda!").correct == 1.0
    assert judge(asked, "Hello, Otto!").correct == 0.25


def test_the_weights_of_the_judge_and_of_the_kinds_sum_to_a_whole():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert sum(kind.weight for kind in KINDS.values()) == pytest.approx(100)
