"""How long prompts are taken to be where a budget must hold: by a real tokenizer never too short, and not far too long."""

import base64
import random

from llama_index.core.utils import get_tokenizer

from agentroute.serving._bounds import tokens_at_most


def words(letters: str | list[str], length: int, between: str = " ", many: int = 200) -> str:
    """Words of letters drawn by lot."""
    drawn = random.Random(0)
    return between.join("".join(drawn.choice(letters) for _ in range(length)) for _ in range(many))


LETTERS = "abcdefghijklmnopqrstuvwxyz"
ACIDS = "ACDEFGHIKLMNPQRSTVWY"


def test_no_text_has_more_tokens_than_are_counted_on():
    tokenizer = get_tokenizer()  # that of GPT-4, which comes with LlamaIndex
    texts = {
        "english": "The planner breaks a request down, and the solver writes what the plan says. " * 20,
        "code": "def add(a: int, b: int) -> int:\n    return a + b  # a sum\n\n\n" * 20,
        "json": '{"name": "x1", "value": 0.123456, "on": true}, ' * 40,
        "digits": "3141592653589793238462643383279502884197169399375105820974944592",
        "base64": base64.b64encode(bytes(range(256)) * 8).decode(),
        "hexadecimal": bytes(range(256)).hex(),
        "capitals": "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG. " * 10,
        "chinese": "多智能体系统在每个任务和每个角色选择模型时表现更好" * 20,
        "thai": "ระบบหลายตัวแทนทำงานได้ดีขึ้น" * 20,
        "german": "Die Zusammenarbeit mehrerer Sprachmodelle verbessert Ergebnisse. " * 10,
        "emoji": "😀🎉🔥🚀" * 50,
        "white": " \n" * 400,
        "letters": words(LETTERS, 1),
        "letters in lines": words(LETTERS.upper(), 1, "\n"),
        "words by lot": words(LETTERS, 8),
        "capitals by lot": words(LETTERS.upper(), 5),
        "cases by lot": words(LETTERS + LETTERS.upper(), 6),
        "proteins": words(ACIDS, 10),
        "genes": words("ACGT", 10),
        "small genes": words("acgt", 10),
        "base32": words(LETTERS.upper() + "234567", 32),
        "names of variables": words(["Xq", "Zv", "Jk", "Wp"], 5),
        "tabs": "a\t\tb\t\t\tc\t" * 100,
        "wide": "   a    b  c " * 60,
        "moves": "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O Be7 " * 10,
        "welsh": "Genir pawb yn rhydd ac yn gydradd â'i gilydd mewn urddas a hawliau. " * 10,
        "zulu": "Bonke abantu bazalwa bekhululekile belingana ngesithunzi nangamalungelo. " * 10,
    }
    for name, text in texts.items():
        found = len(tokenizer(text))
        assert found <= tokens_at_most(text) <= max(3.5 * found, 64), name
