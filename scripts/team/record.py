"""Lets a team of three small local models solve tasks, with a model drawn at random for each role: the runs that ship.

Run `python scripts/team/record.py FOLDER`; stop and go on at will. Every answer is kept in `FOLDER/calls.jsonl`, by model and
prompt: decoding is greedy, so that the same question to the same model is the same call. `FOLDER/runs.jsonl` holds the runs.

* `random`: 330 tasks, each solved once, every role's model drawn independently (the critic's from the models and "none");
* `held`: 120 other tasks, solved by the assignments that are to be judged: by `--arms FILE`, which `arms.py` writes, else by one
  model for all roles.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from agentroute.collection import ChatEndpoint, load_ladder, verify
from agentroute.local import LocalServer

MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
KINDS = ("arithmetic", "fact", "language", "topic", "word-problem", "yes-no")
RANDOM, HELD = 55, 20
"""Tasks of each kind to learn from, and to be judged on."""
KEPT = ("input_tokens", "output_tokens", "cpu_seconds")
NONE = "none"
"""In the place of an optional role's model: the role is left out."""

ROLES = tomllib.loads((resources.files("agentroute") / "data" / "team.toml").read_text(encoding="utf-8"))["roles"]


Todo: TypeAlias = tuple[str, str, dict[str, str], float | None]


def rows_of(file: Path) -> list[dict[str, Any]]:
    """What a file holds; a last line that a crash has cut off is taken away, and done again."""
    if not file.exists():
        return []
    body = file.read_bytes()
    whole = body[: body.rfind(b"\n") + 1]
    if len(whole) < len(body):
        os.truncate(file, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


class Calls:
    """Answers, asked once and then remembered in a file."""

    def __init__(self, file: Path, endpoints: Mapping[str, ChatEndpoint]) -> None:
        self.file = file
        self.endpoints = endpoints
        self.lock = threading.Lock()
        self.known = {(row["model"], row["prompt"]): row for row in rows_of(file)}

    def ask(self, model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
        """The answer, with its tokens and processor seconds."""
        row = self.known.get((model, prompt))
        if row is None:
            answer = self.endpoints[model].answer(prompt, max_tokens)
            row = {
                "model": model,
                "prompt": prompt,
                "text": answer.text,
                "input_tokens": answer.usage.input_tokens if answer.usage else None,
                "output_tokens": answer.usage.output_tokens if answer.usage else None,
                "cpu_seconds": answer.cpu_seconds,
            }
            with self.lock, self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
                self.known[model, prompt] = row
        return row


def solve(calls: Calls, task: str, assignment: Mapping[str, str]) -> tuple[str, dict[str, dict[str, Any]]]:
    """The team's answer, and what each role said."""
    said: dict[str, dict[str, Any]] = {}
    words = {"task": task, "plan": "", "answer": ""}
    for role, output in zip(ROLES, ("plan", "answer", "answer"), strict=True):
        model = assignment[role["name"]]
        if model == NONE:
            continue
        row = calls.ask(model, role["prompt"].format(**words), role["max_tokens"])
        said[role["name"]] = row
        words[output] = row["text"].strip()
    return words["answer"], said


def drawn(rng: random.Random) -> dict[str, str]:
    """A model for each role, at random."""
    return {role["name"]: rng.choice([*MODELS, NONE] if role.get("optional") else MODELS) for role in ROLES}


def split() -> tuple[list[str], list[str]]:
    """The names of the tasks to learn from, and of those to be judged on."""
    tasks = load_ladder().tasks
    learned, held = [], []
    for kind in KINDS:
        names = sorted(name for name, task in tasks.items() if task.task == kind)
        random.Random(f"team {kind}").shuffle(names)
        learned += names[:RANDOM]
        held += names[RANDOM : RANDOM + HELD]
    return learned, held


def todo(done: set[tuple[str, str]], arms: Iterable[Mapping[str, Mapping[str, str]]]) -> Iterable[Todo]:
    """What is still to be run: part, task, assignment and the chance with which it was drawn.

    Args:
        done: Tasks and assignments that the file holds.
        arms: Kind of task → role → model, of each arm.
    """
    learned, held = split()
    chance = 1.0
    for role in ROLES:
        chance /= len(MODELS) + bool(role.get("optional"))
    rng = random.Random(20261123)
    random.Random(1).shuffle(learned)
    for name in learned:
        assignment = drawn(rng)
        if (name, json.dumps(assignment)) not in done:
            yield "random", name, assignment, chance
    tasks = load_ladder().tasks
    asked = set(done)
    for arm in arms:
        for name in held:
            assignment = dict(arm[str(tasks[name].task)])
            key = (name, json.dumps(assignment))
            if key not in asked:
                # Two arms may agree on a task: it is run once.
                asked.add(key)
                yield "held", name, assignment, None


def main() -> None:
    """Runs what the files do not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", type=Path, help="JSON: arm -> kind of task -> {role: model}")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    singles = {model: {kind: {role["name"]: model for role in ROLES} for kind in KINDS} for model in MODELS}
    arms = json.loads(given.arms.read_text()) if given.arms else singles
    file = given.folder / "runs.jsonl"
    done = {(row["task"], json.dumps(row["assignment"])) for row in rows_of(file)}
    tasks = load_ladder().tasks
    lock = threading.Lock()
    with ExitStack() as stack, file.open("a", encoding="utf-8") as out:
        servers = {model: stack.enter_context(LocalServer(model)) for model in MODELS}
        calls = Calls(
            given.folder / "calls.jsonl",
            {
                model: ChatEndpoint(server.base_url, server.model, api_key=server.api_key, cpu_seconds=server.cpu_seconds)
                for model, server in servers.items()
            },
        )

        def run(one: Todo) -> None:
            part, name, assignment, chance = one
            answer, said = solve(calls, tasks[name].prompt, assignment)
            row = {
                "part": part,
                "task": name,
                "kind": tasks[name].task,
                "assignment": assignment,
                "propensity": chance,
                "success": verify(answer, tasks[name].verifier),
                "answer": answer,
                "roles": {
                    role: {key: row[key] for key in ("input_tokens", "output_tokens", "cpu_seconds")}
                    for role, row in said.items()
                },
            }
            with lock:
                out.write(json.dumps(row) + "\n")
                out.flush()

        with ThreadPoolExecutor(given.workers) as pool:
            for count, _ in enumerate(pool.map(run, todo(done, arms.values())), 1):
                if count % 20 == 0:
                    print(count, flush=True)


if __name__ == "__main__":
    main()
