"""The loop of phase III through the HTTP API of the studio: votes in, a better policy out. How soon, how much better?

    python benchmarks/loop.py RUN [--votes 200] [--json] [--quick]

RUN is a finished run of TinyWorld; a copy of it without rounds and votes is served by `trivium studio`. A program that
asks TinyWorld's judge stands in for the person: it fetches pairs, votes, and starts the round, all by HTTP. The seconds
count from the last vote to the new policy; the win rate over instruct is that of blind comparisons by the same judge.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import httpx

from trivium.config import read_settings, resolve
from trivium.errors import TriviumError
from trivium.feedback.judges import SimulatedJudge
from trivium.generate.sampling import stream_seed
from trivium.phases.align.questions import Gold, world_questions
from trivium.publish import MANIFEST
from trivium.runs import Run, read_run

PROMPTS = 3000  # among which those that are asked are looked for
LONGEST = 900.0  # seconds to wait for a round


def judge_of(run: Run) -> dict[str, Gold]:
    """What an answer to each prompt is truly worth, for the prompts that the studio asks."""
    recipe = resolve(read_settings(run.recipe))
    ask, first = world_questions(recipe, held_out=False), stream_seed(recipe.seed, 12, 1) % 2**20
    asked = [ask(first + i) for i in range(PROMPTS)]
    return {told([message._asdict() for message in one.prompt]): one.gold for one in asked if one.gold}


def told(prompt: list[dict[str, Any]]) -> str:
    return json.dumps([[turn["role"], turn["content"]] for turn in prompt])


def vote(client: httpx.Client, golds: dict[str, Gold], count: int, noise: float) -> int:
    """Votes as a person would cast them, some of them wrong."""
    judge = SimulatedJudge[object](score=lambda item, answer: 0.0, noise=noise, seed=0)
    cast = 0
    while cast < count:
        for pair in client.get("/api/pairs", params={"count": min(8, count - cast)}).raise_for_status().json()["pairs"]:
            gold = golds[told(pair["prompt"])]
            left, right = (
                gold(pair[side], ended) for side, ended in zip(("left", "right"), pair["ended"], strict=True)
            )
            choice = judge.choose(pair["id"], left, right)
            shown = {"first": "left", "second": "right", "tie": "tie"}[choice]
            slip = {"showing": pair["id"], "shown": shown, "key": f"v{pair['id']}", "seconds": 1.0}
            client.post("/api/votes", json=slip).raise_for_status()
            cast += 1
        time.sleep(0.02)
    return cast


def measure(source: Path, *, votes: int, align_steps: int, reward_steps: int) -> dict[str, Any]:
    read_run(source)
    with tempfile.TemporaryDirectory() as folder:
        left = shutil.ignore_patterns("rounds", "*.db*", "plan.json")  # no dial that refuses what so few votes teach
        run = Run(Path(shutil.copytree(source, Path(folder) / "loop", ignore=left)))
        lines = run.journal.read_text().splitlines(keepends=True)
        run.journal.write_text("".join(line for line in lines if "-001" not in line[:40]))
        noise = resolve(read_settings(run.recipe)).votes.noise
        command = [sys.executable, "-m", "trivium", "studio", str(run.path), "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout
            address = httpx.URL(server.stdout.readline().strip())
            with httpx.Client(
                base_url=f"http://{address.netloc.decode()}", follow_redirects=True, timeout=60
            ) as client:
                client.get(address).raise_for_status()
                cast = vote(client, judge_of(run), votes, noise)
                begun = time.monotonic()
                order = {"next_round": True, "people_only": True, "align_steps": align_steps}
                client.post("/api/work", json=order | {"reward_steps": reward_steps}).raise_for_status()
                made = run.round(1).aligned / MANIFEST
                wait(client, made.exists)
                seconds = time.monotonic() - begun
                wait(client, lambda: not client.get("/api/story").json()["state"]["working"])
        finally:
            server.kill()
            server.wait()
        found = json.loads(run.measures.read_text())["aligned"]
    won = {"win_rate": found["win_rate"], "low": found["win_rate_low"], "high": found["win_rate_high"]}
    return {"seconds": round(seconds, 1), "votes": cast, **won}


def wait(client: httpx.Client, what: Any) -> None:
    """raises  TriviumError when the round gave up"""
    until = time.monotonic() + LONGEST
    while not what():
        state = client.get("/api/story").raise_for_status().json()["state"]
        if state["complaint"] or time.monotonic() > until:
            raise TriviumError(f"the round was not made: {state['complaint'] or state['title']}")
        time.sleep(0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of TinyWorld")
    parser.add_argument("--votes", type=int, default=200)
    parser.add_argument("--align-steps", type=int, default=90)
    parser.add_argument("--reward-steps", type=int, default=24)
    parser.add_argument("--quick", action="store_true", help="a few votes and steps: whether it works")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    size = (12, 4, 4) if said.quick else (said.votes, said.align_steps, said.reward_steps)
    found = measure(said.run, votes=size[0], align_steps=size[1], reward_steps=size[2])
    if said.json:
        print(json.dumps(found))
        return
    print(f"simulated votes                        {found['votes']}")
    print(f"from the last one to the new policy    {found['seconds']:.0f} s")
    print(f"blind win rate over instruct           {found['win_rate']:.1%} ({found['low']:.1%} to {found['high']:.1%})")


if __name__ == "__main__":
    main()
