"""Makes the ladder's questions: eleven kinds, generated and verifiable, from one seed.

Run `python scripts/ladder/make_questions.py questions.jsonl`, then `agentroute collect questions.jsonl ...`; see the
README beside this file. Each line is one task: id, task (the kind), prompt, max_tokens and its verifier.
"""

# ruff: noqa: E501, ISC004  # a template reads best whole

from __future__ import annotations

import json
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lexicon as lx

SEED = 20261122
Item = tuple[str, dict[str, Any], int]  # prompt, verifier, max_tokens


def number(value: float) -> dict[str, Any]:
    return {"kind": "number", "expected": value}


def arithmetic(rng: random.Random) -> Iterator[Item]:
    asks = [
        "What is {e}? Answer with only the number.",
        "Compute {e}. Reply with just the result.",
        "{e} = ? Give the number only.",
        "Please work out {e} and answer with a number.",
    ]
    while True:
        a, b, c = rng.randint(2, 99), rng.randint(2, 99), rng.randint(2, 12)
        text, value = rng.choice(
            [
                (f"{a} + {b}", a + b),
                (f"{a + b} - {a}", b),
                (f"{c} * {b}", c * b),
                (f"{a} * {b}", a * b),
                (f"{a} + {b} * {c}", a + b * c),
                (f"({a} + {b}) * {c}", (a + b) * c),
                (f"{a * 7} + {b * 9}", a * 7 + b * 9),
                (f"{b * c} / {c}", b),
                (f"{a} + {b} - {c}", a + b - c),
            ]
        )
        yield rng.choice(asks).format(e=text), number(value), 32


def stories(rng: random.Random) -> Iterator[Item]:
    end = rng.choice
    tails = ["Answer with only the number.", "Give just the number.", "Reply with the final number only."]
    while True:
        p, q = rng.sample(lx.PEOPLE, 2)
        x, (a, b, c) = rng.choice(lx.THINGS), (rng.randint(12, 60), rng.randint(2, 11), rng.randint(2, 9))
        text, value = rng.choice(
            [
                (f"{p} has {a} {x}. {q} gives {p} {b} more {x}. How many {x} does {p} have now?", a + b),
                (f"{p} had {a} {x} and lost {b} of them. How many {x} are left?", a - b),
                (f"{p} buys {b} boxes with {c} {x} each. How many {x} is that?", b * c),
                (f"{p} shares {b * c} {x} equally among {c} friends. How many {x} does each friend get?", b),
                (f"{p} has {a} {x}. {q} has {b} more than {p}. How many {x} do they have together?", 2 * a + b),
                (
                    f"A pack holds {c} {x}. {p} buys {b} packs and gives {c - 1} {x} to {q}. How many {x} does {p} keep?",
                    b * c - c + 1,
                ),
                (f"{p} reads {a} pages on Monday and twice as many on Tuesday. How many pages in total?", 3 * a),
                (
                    f"A ticket costs {b} euros. {p} buys {c} tickets and pays with a {b * c + a} euro voucher. "
                    "How many euros of the voucher remain?",
                    a,
                ),
            ]
        )
        yield f"{text} {end(tails)}", number(value), 48


def facts(rng: random.Random) -> Iterator[Item]:
    pool: list[Item] = []
    capital = ["What is the capital of {x}? Answer with only the city name.", "Name the capital city of {x}. One name only."]
    for country, city in lx.pairs(lx.CAPITALS):
        pool.append((rng.choice(capital).format(x=country), {"kind": "contains", "expected": city}, 24))
    for element, symbol in lx.pairs(lx.SYMBOLS):
        ask = rng.choice(
            [
                "What is the chemical symbol of {x}? Answer with only the symbol.",
                "Give the chemical symbol for {x}, nothing else.",
            ]
        )
        pool.append((ask.format(x=element), {"kind": "exact", "expected": symbol}, 24))
    for country, continent in lx.pairs(lx.CONTINENTS):
        options = ["North America", "South America", "Africa", "Asia", "Europe", "Oceania"]
        pool.append(
            (
                f"On which continent is {country}? Answer with only the continent.",
                {"kind": "choice", "options": options, "expected": continent[0]},
                24,
            )
        )
    rng.shuffle(pool)
    yield from pool


def language(rng: random.Random) -> Iterator[Item]:
    pool: list[Item] = []
    for word, right in lx.pairs(lx.OPPOSITES):
        ask = rng.choice(
            ["What is the opposite of '{x}'? Answer with one word.", "Give one antonym of the word {x}. One word only."]
        )
        pool.append((ask.format(x=word), {"kind": "contains", "expected": right}, 24))
    for word, right in lx.pairs(lx.PLURALS):
        pool.append((f"What is the plural of '{word}'? Answer with one word.", {"kind": "exact", "expected": right}, 24))
    for word, right in lx.pairs(lx.PASTS):
        ask = rng.choice(
            ["What is the past tense of '{x}'? Answer with one word.", "Write the simple past of the verb {x}. One word only."]
        )
        pool.append((ask.format(x=word), {"kind": "exact", "expected": right}, 24))
    rng.shuffle(pool)
    yield from pool


def sentiment(rng: random.Random) -> Iterator[Item]:
    asks = [
        "Is this review positive or negative? Answer with one word.\nReview: {r}",
        'Classify the sentiment as positive or negative, one word only: "{r}"',
        "Review: {r}\nSentiment (positive or negative, one word):",
    ]
    options = ["positive", "negative"]
    praise = [(one, "positive") for one in lx.PRAISE.replace("\n", "|").split("|")]
    blame = [(one, "negative") for one in lx.BLAME.replace("\n", "|").split("|")]
    twisted = [tuple(one.rsplit(":", 1)) for one in lx.TWISTED.splitlines()]
    while True:
        text, label = rng.choice(praise + blame + twisted + twisted)
        review = text.format(x=rng.choice(lx.PRODUCTS).replace("_", " "))
        yield rng.choice(asks).format(r=review), {"kind": "choice", "options": options, "expected": label}, 24


def topics(rng: random.Random) -> Iterator[Item]:
    names = list(lx.TOPICS)
    asks = [
        "Which topic fits this sentence best: {o}? Answer with one word.\n{s}",
        "Label the sentence with one of: {o}. One word.\nSentence: {s}",
        "{s}\nTopic ({o}), one word:",
    ]
    while True:
        label = rng.choice(names)
        sentence = rng.choice(lx.TOPICS[label].replace("\n", "|").split("|"))
        order = rng.sample(names, len(names))
        yield rng.choice(asks).format(o=", ".join(order), s=sentence), {"kind": "choice", "options": names, "expected": label}, 24


def passages(rng: random.Random) -> Iterator[Item]:
    while True:
        p, q = rng.sample(lx.PEOPLE, 2)
        city, other = rng.sample(lx.CITIES, 2)
        job, job2 = rng.sample(lx.JOBS, 2)
        pet, pet2 = rng.sample(lx.PETS, 2)
        drink, drink2 = rng.sample(lx.DRINKS, 2)
        age, gap = rng.randint(20, 60), rng.randint(2, 9)
        passage = (
            f"{p} is a {job} who lives in {city} with a {pet}. {q}, a {job2} from {other}, is {gap} years older than {p} and "
            f"prefers {drink} to {drink2}. {p} is {age} years old."
        )
        question, answer = rng.choice(
            [
                (f"Does {p} live in {city}?", "yes"),
                (f"Does {p} live in {other}?", "no"),
                (f"Is {q} a {job}?", "no"),
                (f"Is {q} a {job2}?", "yes"),
                (f"Does {p} own a {pet2}?", "no"),
                (f"Is {q} older than {p}?", "yes"),
                (f"Is {p} older than {q}?", "no"),
                (f"Does {q} like {drink2} better than {drink}?", "no"),
                (f"Is {q} {age + gap} years old?", "yes"),
                (f"Is {q} younger than {age}?", "no"),
                (f"Is {p} at least {age - 1} years old?", "yes"),
                (f"Does {q} prefer {drink}?", "yes"),
            ]
        )
        shape = rng.choice(["{t}\nQuestion: {q} Answer yes or no.", "Read the text and answer yes or no.\n{t}\n{q}"])
        yield shape.format(t=passage, q=question), {"kind": "choice", "options": ["yes", "no"], "expected": answer}, 24


def extraction(rng: random.Random) -> Iterator[Item]:
    while True:
        first, last = rng.choice(lx.PEOPLE), rng.choice(lx.SURNAMES)
        mail = f"{first.lower()}.{last.lower()}@{rng.choice(lx.WORDS)}.example"
        city, thing = rng.choice(lx.CITIES), rng.choice(lx.PRODUCTS).replace("_", " ")
        day, month, year = rng.randint(1, 28), rng.choice(lx.MONTHS), rng.randint(2019, 2029)
        price, order, qty = rng.randint(11, 980), f"{rng.choice('ABKXZ')}{rng.randint(1000, 9999)}", rng.randint(2, 9)
        text = rng.choice(
            [
                f"Dear team, {first} {last} from {city} ordered {qty} units of the {thing} on {day} {month} {year} for {price} euros. "
                f"Order number {order}. Please confirm to {mail}.",
                f"Invoice {order}: {qty} x {thing}, total {price} euros, due {day} {month} {year}. Customer: {first} {last}, {city} ({mail}).",
                f"Hello, this is {first} {last}. My {thing} (order {order}, {price} euros) reached {city} on {day} {month} {year}, but {qty} parts are "
                f"missing. Write to {mail}.",
            ]
        )
        what, verifier = rng.choice(
            [
                ("the e-mail address", {"kind": "contains", "expected": mail}),
                ("the order number", {"kind": "contains", "expected": order}),
                ("the city", {"kind": "contains", "expected": city}),
                ("the customer's surname", {"kind": "exact", "expected": last}),
                ("the price in euros, as a number", number(price)),
                ("the year", number(year)),
                ("the month", {"kind": "contains", "expected": month}),
                ("the product", {"kind": "contains", "expected": thing}),
            ]
        )
        if what == "the e-mail address" and rng.random() < 0.4:
            fields = {"name": f"{first} {last}", "city": city}
            yield (
                f'Return a JSON object with the keys "name" (full name) and "city" for the customer. JSON only.\n{text}',
                {"kind": "json", "expected": fields},
                48,
            )
        else:
            yield f"Extract {what} from the text. Answer with it only.\n{text}", verifier, 40


def code(rng: random.Random) -> Iterator[Item]:
    def task(spec: str, tests: list[str]) -> Item:
        ask = rng.choice(
            [
                "Write a Python function {s}. Answer with only the code.",
                "Python: define {s}. Only code, no explanation.",
                "Implement {s} in Python. Reply with a code block only.",
            ]
        )
        return ask.format(s=spec), {"kind": "python", "tests": tests, "timeout": 5}, 110

    while True:
        a, b = rng.randint(2, 19), rng.randint(2, 30)
        word = rng.choice(["f", "g", "solve", "compute", "run"])
        yield task(
            *rng.choice(
                [
                    (
                        f"`{word}(x)` that returns x multiplied by {a} plus {b}",
                        [f"assert {word}(3) == {3 * a + b}", f"assert {word}(-2) == {-2 * a + b}"],
                    ),
                    (
                        f"`{word}(s)` that returns the string s reversed and repeated {a % 3 + 2} times",
                        [f"assert {word}('abc') == {'cba' * (a % 3 + 2)!r}", f"assert {word}('') == ''"],
                    ),
                    (
                        f"`{word}(xs)` that returns the sum of the numbers in the list xs that are divisible by {a}",
                        [f"assert {word}([{a}, {a * 3}, {a * 2 + 1}]) == {a * 4}", f"assert {word}([]) == 0"],
                    ),
                    (
                        f"`{word}(xs)` that returns a list of the items of xs greater than {b}, in the same order",
                        [f"assert {word}([{b + 5}, {b}, {b - 1}, {b + 1}]) == [{b + 5}, {b + 1}]"],
                    ),
                    (
                        f"`{word}(s)` that returns how many times the letter '{'aeiou'[a % 5]}' occurs in the string s, ignoring case",
                        [f"assert {word}({('AEIOU'[a % 5] + 'xyz' + 'aeiou'[a % 5])!r}) == 2", f"assert {word}('') == 0"],
                    ),
                    (
                        f"`{word}(n)` that returns True if n is divisible by both {a} and {a + 1}, else False",
                        [f"assert {word}({a * (a + 1)}) is True", f"assert {word}({a}) is False"],
                    ),
                    (
                        f"`{word}(words)` that returns the words with more than {a % 5 + 2} letters, sorted alphabetically",
                        [
                            f"assert {word}(['{'z' * (a % 5 + 3)}', 'b', '{'a' * (a % 5 + 4)}']) == ['{'a' * (a % 5 + 4)}', '{'z' * (a % 5 + 3)}']"
                        ],
                    ),
                    (
                        f"`{word}(n)` that returns the factorial of n plus {b}",
                        [f"assert {word}(5) == {120 + b}", f"assert {word}(0) == {1 + b}"],
                    ),
                    (
                        f"`{word}(xs)` that returns the {['second largest', 'second smallest', 'third largest'][a % 3]} distinct number of the list xs",
                        [f"assert {word}([5, 1, 9, 9, 7, 1]) == {[7, 5, 5][a % 3]}"],
                    ),
                    (
                        f"`{word}(d)` that returns the keys of the dictionary d whose value is at least {b}, as a sorted list",
                        [f"assert {word}({{'b': {b}, 'a': {b + 3}, 'c': {b - 1}}}) == ['a', 'b']"],
                    ),
                    (
                        f"`{word}(n)` that returns a list of the first n multiples of {a}, starting with {a}",
                        [f"assert {word}(3) == [{a}, {2 * a}, {3 * a}]", f"assert {word}(0) == []"],
                    ),
                    (
                        f"`{word}(x)` that returns 'low' if x is below {a}, 'high' if x is above {a + b}, else 'mid'",
                        [
                            f"assert {word}({a - 1}) == 'low'",
                            f"assert {word}({a + b + 1}) == 'high'",
                            f"assert {word}({a}) == 'mid'",
                        ],
                    ),
                ]
            )
        )


def formatting(rng: random.Random) -> Iterator[Item]:
    while True:
        n = rng.randint(3, 5)
        words = rng.sample(lx.WORDS, n)
        listed = ", ".join(words)
        yield rng.choice(
            [
                (
                    f"Write these words in capital letters, separated by commas, nothing else: {listed}",
                    {"kind": "exact", "case": True, "expected": [", ".join(words).upper(), ",".join(words).upper()]},
                    48,
                ),
                (f"Write each of these words on its own line, nothing else: {listed}", {"kind": "lines", "expected": words}, 48),
                (
                    f"Sort these words alphabetically and write them separated by commas, nothing else: {listed}",
                    {"kind": "exact", "expected": [", ".join(sorted(words)), ",".join(sorted(words))]},
                    48,
                ),
                (
                    f"Write these words in reverse order, separated by commas, nothing else: {listed}",
                    {"kind": "exact", "expected": [", ".join(words[::-1]), ",".join(words[::-1])]},
                    48,
                ),
                (
                    f"Join these words with hyphens into one string, nothing else: {listed}",
                    {"kind": "exact", "expected": "-".join(words)},
                    48,
                ),
                (
                    f'Return a JSON object with one key "words" whose value is the list of these words: {listed}. JSON only.',
                    {"kind": "json", "expected": {"words": words}},
                    64,
                ),
                (f"How many words are in this list? Answer with only the number. {listed}", number(n), 24),
                (f"Write only the last word of this list: {listed}", {"kind": "exact", "expected": words[-1]}, 24),
            ]
        )


def puzzles(rng: random.Random) -> Iterator[Item]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import reasoning_gym

    def made(name: str, **options: Any) -> Iterator[dict[str, Any]]:
        return iter(reasoning_gym.create_dataset(name, seed=SEED, size=400, **options))

    kinds = [
        "letter_counting",
        "spell_backward",
        "simple_equations",
        "gcd",
        "leg_counting",
        "aiw",
        "family_relationships",
        "syllogism",
        "chain_sum",
    ]
    options: dict[str, dict[str, Any]] = {
        "letter_counting": {"min_words": 2, "max_words": 4},
        "spell_backward": {"min_word_len": 3, "max_word_len": 5},
        "gcd": {"min_value": 4, "max_value": 60},
        "leg_counting": {"min_animals": 2, "max_animals": 3, "min_instances": 1, "max_instances": 6},
        "chain_sum": {"min_terms": 3, "max_terms": 4, "max_digits": 2},
    }
    streams = {kind: made(kind, **options.get(kind, {})) for kind in kinds}
    while True:
        kind = rng.choice(kinds)
        item = next(streams[kind])
        answer, text = str(item["answer"]), " ".join(str(item["question"]).split())
        verifier: dict[str, Any]
        if kind == "syllogism":
            verifier = {"kind": "choice", "options": ["yes", "no"], "expected": answer.lower()}
        elif kind in {"spell_backward", "family_relationships"}:
            verifier = {"kind": "exact", "expected": answer}
        else:
            verifier, text = number(float(answer)), text if kind == "gcd" else f"{text} Answer with only the number."
        yield text, verifier, 40


KINDS: dict[str, tuple[Callable[[random.Random], Iterator[Item]], int]] = {
    "arithmetic": (arithmetic, 130),
    "word-problem": (stories, 130),
    "fact": (facts, 130),
    "language": (language, 85),
    "sentiment": (sentiment, 120),
    "topic": (topics, 120),
    "yes-no": (passages, 130),
    "extraction": (extraction, 130),
    "code": (code, 120),
    "formatting": (formatting, 130),
    "puzzle": (puzzles, 150),
}


def main(path: str) -> None:
    """Writes all tasks, shuffled, one JSON object a line."""
    tasks, seen = [], set()
    for kind, (make, size) in KINDS.items():
        # One generator a kind: a change to one kind leaves the others as they were.
        stream, count = make(random.Random(f"{SEED}/{kind}")), 0
        for prompt, verifier, max_tokens in stream:
            if prompt in seen:
                continue
            seen.add(prompt)
            tasks.append(
                {"id": f"{kind}-{count:03d}", "task": kind, "prompt": prompt, "max_tokens": max_tokens, "verifier": verifier}
            )
            count += 1
            if count == size:
                break
    random.Random(SEED).shuffle(tasks)
    Path(path).write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in tasks), encoding="utf-8")
    print(f"{len(tasks)} tasks of {len(KINDS)} kinds in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
