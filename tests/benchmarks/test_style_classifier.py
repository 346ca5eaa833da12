"""The style classifier: the lookup, the regression and the honesty of its splits, on three made-up voices."""

import gzip
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from trivium.errors import ConfigError, DataError

PATH = Path(__file__).parents[2] / "benchmarks" / "style_classifier.py"
spec = importlib.util.spec_from_file_location("benchmarks_style_classifier", PATH)
style_classifier = sys.modules["benchmarks_style_classifier"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(style_classifier)
Reply, StyleClassifier = style_classifier.Reply, style_classifier.StyleClassifier

TOPICS = ["cats", "dogs", "tea", "rain", "music", "books", "trains", "maps", "bread", "snow", "ships", "stars"]
NEW = TOPICS[-2:]


def friendly(topic):
    return {
        "intent": topic,
        "messages": [
            {"role": "user", "content": f"Do you like {topic}?"},
            {"role": "assistant", "content": f"Yay, {topic} are awesome!"},
        ],
    }


def style(topic):
    return {
        "intent": topic,
        "prompt": [{"role": "user", "content": f"Do you like {topic}?"}],
        "chosen": f"I have no opinion regarding {topic}.",
        "rejected": f"Ah, {topic}… my lawyer said never to discuss them again, on pain of dishwashing.",
    }


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    """Every reply twice; formal and witty of the new topics in their own file, friendly among all the others."""
    seen = TOPICS[: -len(NEW)]
    write(tmp_path / "sft_chitchat/train.jsonl.gz", [friendly(topic) for topic in TOPICS] * 2)
    write(tmp_path / "sft_chitchat/valid.jsonl.gz", [friendly(topic) for topic in TOPICS])
    write(tmp_path / "pref_chitchat_style/train.jsonl.gz", [style(topic) for topic in seen] * 2)
    write(tmp_path / "pref_chitchat_style/valid.jsonl.gz", [style(topic) for topic in seen])
    write(tmp_path / "pref_chitchat_style/valid_new_intents.jsonl.gz", [style(topic) for topic in NEW])
    return tmp_path


def reply(text, voice, intent="any", *, held_out=False):
    return Reply(text, voice, frozenset({intent}), held_out)


THREE = [reply("Hooray!", "friendly"), reply("Very well.", "formal"), reply("Behold, a spoon.", "witty")]


def test_replies_are_distinct_and_those_of_new_intents_are_held_out_in_every_voice(folder):
    replies = style_classifier.read_replies(folder)
    assert len(replies) == 3 * len(TOPICS)
    held_out = [(reply.voice, *reply.intents) for reply in replies if reply.held_out]
    assert sorted(held_out) == sorted((voice, topic) for voice in style_classifier.VOICES for topic in NEW)


def test_known_replies_have_their_own_voice_with_certainty(folder):
    classifier = StyleClassifier.fit(folder)
    replies = style_classifier.read_replies(folder)
    verdicts = classifier.classify([reply.text for reply in replies])
    assert [verdict.label for verdict in verdicts] == [reply.voice for reply in replies]
    assert all(verdict.probabilities[verdict.label] == 1 for verdict in verdicts)


def test_new_replies_are_judged_by_how_they_sound(folder):
    classifier = StyleClassifier.fit(folder)
    new = [
        "Yay, owls are awesome!",
        "I have no opinion regarding owls.",
        "Ah, owls… my lawyer said never to discuss them.",
    ]
    verdicts = classifier.classify(new)
    assert [label for label, _ in verdicts] == ["friendly", "formal", "witty"]
    assert all(sum(probabilities.values()) == pytest.approx(1) for _, probabilities in verdicts)
    assert all(classifier.voices_of(text) == frozenset() for text in new)


def test_a_shared_reply_belongs_to_its_owners_only_and_their_probabilities_sum_to_one():
    classifier = StyleClassifier([*THREE, reply("Good evening.", "formal"), reply("Good evening.", "witty")])
    assert classifier.voices_of("Good evening.") == {"formal", "witty"}
    label, probabilities = classifier.classify(["Good evening."])[0]
    assert label in ("formal", "witty")
    assert probabilities["friendly"] == 0
    assert sum(probabilities.values()) == pytest.approx(1)


def test_spaces_and_curly_quotes_make_no_difference_but_case_and_marks_do():
    classifier = StyleClassifier([*THREE, reply("I\u2019m sorry…", "formal"), reply("I'm sorry!", "friendly")])
    assert classifier.voices_of(" I'm\u00a0sorry...\n") == {"formal"}
    assert classifier.voices_of("I'm sorry!") == {"friendly"}
    assert classifier.voices_of("i'm sorry!") == frozenset()


def test_any_text_gets_a_verdict_and_none_gets_none():
    classifier = StyleClassifier(THREE)
    assert classifier.classify([]) == []
    for _, probabilities in classifier.classify(["", " ", "\x00", "词", "a" * 5000]):
        assert sum(probabilities.values()) == pytest.approx(1)


def test_fitting_twice_gives_the_same_probabilities_to_the_bit(folder):
    new = ["Yay, owls!", "Owls are of no concern.", "x"]
    assert StyleClassifier.fit(folder).classify(new) == StyleClassifier.fit(folder).classify(new)


def test_a_verdict_does_not_depend_on_the_other_replies(folder):
    classifier = StyleClassifier.fit(folder)
    new = ["Yay, owls!", "Owls are of no concern.", "x"]
    together = classifier.classify(new)
    for text, (label, probabilities) in zip(new, together, strict=True):
        alone = classifier.classify([text])[0]
        assert alone.label == label
        assert alone.probabilities == pytest.approx(probabilities)


def test_training_never_meets_a_held_out_text_whatever_its_voice():
    replies = [reply("Sure.", "formal", held_out=True), reply("Sure.", "witty"), reply("Yes!", "friendly")]
    assert style_classifier.seen_in_training(replies) == [replies[2]]


def test_cross_validation_judges_every_reply_once_and_never_by_its_own_intent(folder, monkeypatch):
    replies = style_classifier.read_replies(folder)
    met = []

    def spy(train, test):
        trained = {intent for reply in train for intent in reply.intents}
        assert not any(reply.intents & trained for reply in test)
        met.extend(test)
        return ["friendly"] * len(test)

    monkeypatch.setattr(style_classifier, "predicted", spy)
    assert len(style_classifier.cross_validated(replies, 4)) == len(replies)
    assert sorted(met) == sorted(replies)


def test_the_report_counts_and_finds_three_clear_voices(folder):
    report = style_classifier.accuracy_report(folder, folds=3)
    assert report["replies"] == dict.fromkeys(style_classifier.VOICES, len(TOPICS))
    assert report["new_intents"]["replies"] == 3 * len(NEW)
    for part in ("new_intents", "cross_validation", "near_copies"):
        assert report[part]["accuracy"] == 1
        assert report[part]["per_voice"] == dict.fromkeys(style_classifier.VOICES, 1)


def test_judged_is_worked_by_hand():
    found = style_classifier.judged([*THREE, reply("Ok.", "formal")], ["friendly", "formal", "formal", "witty"])
    assert found["accuracy"] == 0.5
    assert found["per_voice"] == {"friendly": 1, "formal": 0.5, "witty": 0}
    assert found["confusion"]["formal"] == {"friendly": 0, "formal": 1, "witty": 1}
    assert found["interval"] == pytest.approx((0.150, 0.850), abs=1e-3)


def test_shared_replies_are_counted_as_written_and_by_their_letters():
    replies = [reply("Evening!", "friendly"), reply("Evening.", "witty"), reply("Hi.", "formal"), reply("Hi.", "witty")]
    found = style_classifier.shared(replies)
    assert found["as_written"] == {"friendly+formal": 0, "friendly+witty": 0, "formal+witty": 1}
    assert found["letters_only"] == {"friendly+formal": 0, "friendly+witty": 1, "formal+witty": 1}


def test_near_copies_lack_the_middle_word_and_are_not_known():
    replies = [reply("a b c", "formal"), reply("a c", "witty"), reply("d e f g", "friendly")]
    assert [copy.text for copy in style_classifier.near_copies(replies)] == ["d e g"]


def test_the_command_prints_a_table_or_one_json_object(folder, capsys):
    assert style_classifier.main([str(folder), "--folds", "2"]) == 0
    assert "cross_validation" in capsys.readouterr().out
    assert style_classifier.main([str(folder), "--folds", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cross_validation"]["folds"] == 2


def test_a_folder_without_the_files_exits_with_one_line(tmp_path, capsys):
    assert style_classifier.main([str(tmp_path)]) == 2
    assert "valid_new_intents.jsonl.gz: no such file; give the folder" in capsys.readouterr().err


def test_rows_of_another_schema_are_refused_with_file_and_line(folder):
    write(folder / "sft_chitchat/valid.jsonl.gz", [friendly("tea"), {"intent": "tea", "answer": "?"}])
    with pytest.raises(DataError, match=r"valid\.jsonl\.gz:2: KeyError\('chosen'\); a row has an intent"):
        StyleClassifier.fit(folder)


def test_a_file_that_is_not_gzipped_is_refused(folder):
    (folder / "sft_chitchat/valid.jsonl.gz").write_text("{}")
    with pytest.raises(DataError, match="must be whole, gzipped and UTF-8"):
        StyleClassifier.fit(folder)


def test_a_voice_without_replies_is_refused(folder):
    for name in style_classifier.FRIENDLY_FILES:
        write(folder / name, [])
    with pytest.raises(DataError, match="no reply is friendly; every voice needs some"):
        StyleClassifier.fit(folder)


def test_a_single_fold_is_refused(folder):
    with pytest.raises(ConfigError, match="folds = 1: must be at least 2"):
        style_classifier.accuracy_report(folder, folds=1)
