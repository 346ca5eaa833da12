"""Raters vote at once while the studio is killed again and again: is a vote lost, doubled, or put on the other side?

    python benchmarks/votes.py [--database sqlite] [--json] [--quick]

`trivium studio` serves a run whose queue holds made-up pairs; twenty raters fetch and vote by HTTP, each as fast as the
page lets a person, and send a vote again, under the same key, until it is acknowledged. The server is killed (SIGKILL)
and started again all the while, and a small model trains beside it. Latency is that of votes that were sent and
acknowledged while the server was up; those that met a restart, and waited for a program to start, are told apart. The
same is done in a PostgreSQL server of its own, where PostgreSQL is installed.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import httpx

from benchmarks.postgres import programs, server
from trivium.config import resolve, to_toml
from trivium.feedback.people import People
from trivium.feedback.store import NewPair, NewQueued, Store
from trivium.model.transformer import Transformer, initialise
from trivium.publish import write_text
from trivium.records import Message
from trivium.runs import Run, open_run
from trivium.shelf import Origin, publish_model
from trivium.text.tokenizer import train as train_tokenizer
from trivium.worlds import tinyworld

SETTINGS = {
    "model": {"vocab_size": 320, "num_layers": 1, "width": 16, "num_heads": 2, "num_kv_heads": 2, "mlp_width": 32},
    "compute": {"device": "cpu"},
}


PACE = 0.22  # seconds that a pair is looked at: the page takes no vote before, see TOO_SOON in static/vote.js


class Sent(NamedTuple):
    """A vote that was acknowledged."""

    rater_id: int
    answer: str  # the text of the answer that was chosen
    key: str


def make_run(path: Path) -> Run:
    """A run whose model nobody asks: its queue is full."""
    tokenizer = train_tokenizer((tinyworld.story(0, i, held_out=False) for i in range(200)), vocab_size=320)
    recipe = resolve(SETTINGS)
    with open_run(path, create=True) as run:
        write_text(run.recipe, to_toml(recipe))
        model = initialise(Transformer(recipe.model), 0)
        publish_model(run.instruct, model, tokenizer, recipe, Origin("instruct", None, {}, None, {}), beside={})
    return Run(path)


class Server:
    """`trivium studio`, killed and started again on the same port."""

    def __init__(self, run: Run, database: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [
            sys.executable,
            "-m",
            "trivium",
            "studio",
            str(run.path),
            "--no-browser",
            "--port",
            str(self.port),
        ]
        self._environment = {**os.environ, **({"TRIVIUM_DATABASE": database} if database else {})}
        self.life: int | None = 0  # how often it was started so far; None while it is not up
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout
        self._process.stdout.readline()
        httpx.get(f"http://127.0.0.1:{self.port}/", timeout=60)  # is answered, if only by a refusal, when it is up

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        lives, self.life = (self.life or 0) + 1, None
        self.kill()
        self._start()
        self.life = lives


class Taken(NamedTuple):
    """Seconds until votes were acknowledged."""

    up: list[float]  # sent and acknowledged while the server was up
    restarted: list[float]  # which met a restart


def rate(server: Server, rater_id: int, token: str, count: int, sent: list[Sent], taken: Taken) -> None:
    """One rater: prefers the answer that says so, and goes on until enough votes are acknowledged."""
    cookies = {f"trivium-{server.port}": token}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", cookies=cookies, timeout=30) as client:
        cast = 0
        while cast < count:
            pairs = insist(client, "GET", "/api/pairs", params={"count": 4})["pairs"]
            for pair in pairs[: count - cast]:
                side = "left" if "better" in pair["left"] else "right"
                key = f"{rater_id}-{pair['id']}"
                slip = {"showing": pair["id"], "shown": side, "key": key, "seconds": 1.0}
                time.sleep(PACE)
                begun, life = time.monotonic(), server.life
                insist(client, "POST", "/api/votes", json=slip)
                steady = life is not None and life == server.life
                (taken.up if steady else taken.restarted).append(time.monotonic() - begun)
                sent.append(Sent(rater_id, pair[side], key))
                cast += 1


def insist(client: httpx.Client, method: str, path: str, **told: Any) -> dict[str, Any]:
    """Ask until there is an answer, whatever happens to the server meanwhile."""
    for _ in range(1000):
        try:
            answer = client.request(method, path, **told)
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        if answer.status_code >= 500:
            time.sleep(0.2)
            continue
        found: dict[str, Any] = answer.raise_for_status().json()
        return found
    raise TimeoutError(path)


def measure(database: str, *, raters: int, votes: int, kills: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "votes")
        store = Store.open(database or run.feedback)
        people = People(store)
        owner = people.found("owner")
        tokens: dict[int, str] = {}
        for number in range(raters):
            person, token = people.accept(people.invite("rater", by=owner), f"rater {number}")
            tokens[person.rater_id or 0] = token
        prompt = (Message("user", "Which is better?"),)
        answers = [(f"better {n}", f"worse {n}") for n in range(raters * votes)]
        ordered = [two if n % 2 else two[::-1] for n, two in enumerate(answers)]
        store.enqueue(NewQueued(NewPair(prompt, first, second, 1)) for first, second in ordered)
        studio = Server(run, database)
        sent: list[list[Sent]] = [[] for _ in tokens]
        taken = Taken([], [])
        threads = [
            threading.Thread(target=rate, args=(studio, rater, token, votes, sent[i], taken), daemon=True)
            for i, (rater, token) in enumerate(tokens.items())
        ]
        trainer = training(Path(folder))
        for thread in threads:
            thread.start()
        killed = 0
        while any(thread.is_alive() for thread in threads):
            done = sum(map(len, sent))
            if killed < kills and done >= (killed + 1) * raters * votes // (kills + 1):
                studio.restart()
                killed += 1
            time.sleep(0.02)
        studio.kill()
        trainer.kill()
        trainer.wait()
        found = judge(store, [one for own in sent for one in own])
        store.close()
    restarts = {"restarted": len(taken.restarted), "restarted_median_ms": milliseconds(taken.restarted, 0.5)}
    return found | {"p99_ms": milliseconds(taken.up, 0.99), "kills": killed} | restarts


def milliseconds(times: Sequence[float], share: float) -> float:
    """What so large a share of them does not exceed; 0 where there are none."""
    return round(1000 * sorted(times)[int(share * (len(times) - 1))], 1) if times else 0.0


def training(folder: Path) -> subprocess.Popen[bytes]:
    """A small model that trains on one core until it is stopped."""
    flags = ["--out", str(folder / "beside"), "--minutes", "30", "--compute.threads", "1", "--compute.no-compile"]
    command = [sys.executable, "-m", "trivium", "pretrain", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def judge(store: Store, sent: list[Sent]) -> dict[str, Any]:
    """What became of the votes that were acknowledged."""
    pairs = {pair.id: pair for pair in store.pairs()}
    stored = store.history()
    by_key = {vote.idempotency_key: vote for vote in stored}
    lost = swapped = 0
    for one in sent:
        vote = by_key.get(f"studio:{one.rater_id}:{one.key}")
        if vote is None:
            lost += 1
            continue
        pair = pairs[vote.pair_id]
        swapped += {"first": pair.first, "second": pair.second}[vote.choice] != one.answer
    ballots = Counter((vote.rater_id, vote.pair_id, vote.repeat) for vote in stored)
    doubled = sum(count - 1 for count in ballots.values())
    return {"acknowledged": len(sent), "lost": lost, "doubled": doubled, "swapped": swapped}


def is_whole(found: dict[str, Any], wanted: int) -> bool:
    """Whether every vote was acknowledged, and none was lost, doubled or swapped."""
    return found["acknowledged"] == wanted and not any(found[fault] for fault in ("lost", "doubled", "swapped"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="only this one")
    parser.add_argument("--raters", type=int, default=20)
    parser.add_argument("--votes", type=int, default=500, help="of each rater")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a few votes and two kills")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    size = {"raters": said.raters, "votes": said.votes, "kills": said.kills}
    if said.quick:
        size = {"raters": 4, "votes": 20, "kills": 2}
    found, binaries = {}, programs()
    if said.database != "postgresql":
        found["sqlite"] = measure("", **size)
    if said.database != "sqlite" and binaries:
        with server(binaries, durable=True) as url:
            found["postgresql"] = measure(url.render_as_string(hide_password=False), **size)
    failed = not all(is_whole(one, size["raters"] * size["votes"]) for one in found.values())
    if said.json:
        print(json.dumps(found))
        return int(failed)
    shown = ("acknowledged", "kills", "lost", "doubled", "swapped", "p99_ms", "restarted", "restarted_median_ms")
    print(f"{'database':<12}" + "".join(f"  {title}" for title in shown))
    for name, one in found.items():
        print(f"{name:<12}" + "".join(f"{one[title]:>{len(title) + 2},.0f}" for title in shown))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
