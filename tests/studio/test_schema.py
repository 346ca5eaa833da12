"""Whatever is sent to the calls that the OpenAPI schema names, the studio answers: nothing is a fault of ours."""

from typing import Any

import hypothesis
import schemathesis
from hypothesis import strategies

from .conftest import Place

FUZZING = hypothesis.settings().max_examples > 100  # make fuzz
EXAMPLES = 200 if FUZZING else 4
DOING = (
    "/api/work",
    "/api/work/pause",
    "/api/leave",
    "/api/sessions/{number}",
    "/api/join",
)  # would end the test, or start
TEXTS = strategies.text(max_size=40) | strategies.sampled_from(
    ["\u2028", "\x00", "<script>", "‮", "9" * 40, "-1", "NaN"]
)


def test_no_call_answers_with_a_fault_of_ours(place: Place) -> None:
    client = place.come_in("owner")
    schema = client.get("/api/openapi.json").json()
    loaded = schemathesis.openapi.from_dict(schema)
    asked = 0
    for result in loaded.get_all_operations():
        operation: Any = result.ok()
        if operation.path in DOING:
            continue

        @hypothesis.settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(case=operation.as_strategy())
        def check(case: Any) -> None:
            nonlocal asked
            told = case.as_transport_kwargs(base_url="http://127.0.0.1:8000")
            sent = {key: told[key] for key in ("method", "url", "params", "json") if told.get(key) is not None}
            if sent["method"] not in ("GET", "HEAD"):
                sent.setdefault("json", {})
            answer = client.request(**sent)
            assert answer.status_code < 500, (sent, answer.text)
            asked += 1

        check()
    assert asked > 15


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(words=TEXTS, page=strategies.integers(), body=strategies.binary(max_size=60))
def test_odd_words_numbers_and_bytes_are_answered(place: Place, words: str, page: int, body: bytes) -> None:
    client = place.come_in("owner")
    for path in ("/api/votes", "/api/data", "/api/story"):
        query = {"words": words, "page": page, "since": words, "rater": words}
        assert client.get(path, params=query).status_code < 500
    for path in ("/api/votes", "/api/write", "/api/fill", "/api/join", "/api/invitations"):
        assert client.post(path, content=body, headers={"content-type": "application/json"}).status_code < 500
