"""Conversations that any template must render faithfully; none spells a control token."""

from chatkit.messages import Message, assistant, system, user

_LONG = "The quick brown fox jumps over the lazy dog. " * 120

_SINGLE = (
    "Hi",
    "What is a tide?",
    "  leading and trailing spaces  ",
    "line one\nline two\n\n\nline five",
    "\n\nstarts with empty lines",
    "ends with empty lines\n\n",
    "\ttabs\tbetween\twords\t",
    "def f(x):\n    return x ** 2\n\n\nprint(f(3))  # 9",
    "```python\nfor i in range(10):\n\tprint(i)\n```",
    "SELECT * FROM t WHERE a <= 3 AND b <> 'x';",
    '<div class="a">Hello & goodbye</div> <br/>',
    '{"json": [1, 2, {"three": null}]}',
    "1234567890 3.14159 1,000,000 10^-9",
    "Žluťoučký kůň úpěl ďábelské ódy.",
    "Привет, как дела?",
    "你好，世界。今天天气怎么样？",
    "こんにちは、世界！ｶﾀｶﾅ",
    "안녕하세요 세계",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "👍🏽 👩‍👩‍👧‍👦 🇨🇿 ✨",
    "e\u0301 versus é, ﬁ versus fi, Å versus \u212b",
    "zero\u200bwidth\u200djoiners\ufeff and \u00a0 nbsp",
    "math: ∑_{i=1}^{n} i = n(n+1)/2, ∀x∈ℝ",
    "I'LL SHOUT; you're quiet, don't, we've, he'd",
    "{{ not jinja }} {% if x %} {# comment #}",
    "\\n is not a newline; \\\\ nor is this \\",
    "a" * 300,
    _LONG,
)


def conversations() -> list[tuple[Message, ...]]:
    """List at least forty conversations, each ending with a question."""
    single = [(user(text),) for text in _SINGLE]
    told = [(system("Answer briefly."), user(text)) for text in _SINGLE[1:12:2]]
    turns = [
        (user("Hi"), assistant("Hello! How can I help?"), user("Tell me a joke.")),
        (system("You are a pirate."), user("Hi"), assistant("Ahoy!"), user("Who are you?")),
        (user("one"), assistant("two"), user("three"), assistant("four"), user("five")),
        (user("code"), assistant("```\nx = 1\n\n```\n"), user("  again ")),
        (user("你好"), assistant("你好！👋"), user("再见")),
        (system("\n spaced system \n"), user("a"), assistant(" b "), user("c\n")),
        (user(_LONG), assistant(_LONG), user("Summarise.")),
        tuple(user(f"question {n}") if n % 2 == 0 else assistant(f"answer {n}") for n in range(21)),
    ]
    return [*single, *told, *turns]
