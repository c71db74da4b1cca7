"""How long prompts are taken to be where a budget must hold: by a real tokenizer never too short, and not far too long."""

import base64

from llama_index.core.utils import get_tokenizer

from agentroute.serving._bounds import tokens_at_most


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
    }
    for name, text in texts.items():
        found = len(tokenizer(text))
        assert found <= tokens_at_most(text) <= max(3.5 * found, 64), name
