"""Plain texts of models: words, code, JSON, mark-up and quoted marks, none of which are reasoning or calls."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from simkit.core.messages import ToolSpec

SEARCH = ToolSpec.of(
    "search_hotels", "Finds hotels.", {"area": {"type": "string"}, "stars": {"type": "integer"}}, ("area",)
)
BOOK = ToolSpec.of("book", "Books a room.", {"hotel": {"type": "string"}, "people": {"type": "integer"}})
TOOLS = (SEARCH, BOOK)

WORDS = (
    *("I", "found", "three", "hotels", "in", "the", "north", "of", "town", "with", "free", "parking", "and", "wifi"),
    *("shall", "we", "book", "one", "for", "Friday", "please", "tell", "me", "your", "price", "range", "analysis"),
    *("search", "think", "thinking", "final", "answer", "assistant", "tool", "call", "function", "naïve", "10", "日本"),
)
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(lambda words: "So " + " ".join(words) + ".")
ODD_WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters="<[◁{("), max_size=12)
SNIPPETS = st.sampled_from(
    (
        '{"area": "north", "stars": 4}',
        "if a < b and b > c:",
        "List<String>",
        "Mail us at <desk@example.com>.",
        "```xml\n<think>not mine</think>\n```",
        "The tag `<think>` is written by some models.",
        'They print "</think>" at times.',
        "a [1] and b [2]",
        "x[0] = {}",
        "<b>bold</b>",
        '```json\n{"name": "Alma", "arguments": "none"}\n```',
        "book it, or search_hotels again",
    )
)
PLAIN = (
    st.lists(SENTENCES | SNIPPETS | ODD_WORDS.map(lambda word: f"Say {word} now."), min_size=1, max_size=4)
    .map(lambda parts: "Well. " + "\n".join(parts))
    .map(str.strip)
)
"""Texts that a model says."""

THOUGHTS = st.lists(SENTENCES, min_size=1, max_size=3).map("\n".join)
"""Texts that a model thinks, without marks of any kind."""


# --- a fixed sample of plain replies ----------------------------------------------------------------------------------

_NAMES = ("Alma", "Old Mill", "Grand", "Rose & Crown", "Café Noir")
_TAGS = ("think", "thinking", "thought", "reasoning", "tool_call", "function_call", "answer", "analysis")
_LANGUAGES = ("python", "json", "xml", "html", "js", "")


def plain_replies(count: int, seed: int = 7) -> list[str]:
    """Plain replies that hold JSON, code, angle brackets and quoted marks, always the same ones."""
    random = Random(seed)
    return ["\n".join(_piece(random) for _ in range(random.randint(1, 3))) for _ in range(count)]


def _piece(random: Random) -> str:
    name, tag = random.choice(_NAMES), random.choice(_TAGS)
    number, word = random.randint(1, 90), random.choice(("north", "south", "cheap", "Friday"))
    row = f'{{"name": "{name}", "area": "{word}", "price": {number}}}'
    fence = random.choice(_LANGUAGES)
    return random.choice(
        (
            f"I found {name} in the {word}; it costs £{number} a night.",
            f"Here is the record:\n```{fence}\n{row}\n```\nShall I book it?",
            f"Here is the record: {row}",
            row,
            f"[{row}, {row}]",
            f"[\n  {row}\n]",
            f"- {name}: {row}\n- other: {{}}",
            f"Is {number} < {number + 3} > 2? Yes.",
            f"Use `List<{name.split()[0]}>`, or vector<int> x = {{{number}}};",
            f"```{fence}\ndef area(x: dict[str, int]) -> bool:\n    return x['{word}'] < {number}\n```",
            f"```{fence}\n<{tag}>{name}</{tag}>\n```",
            f"Some models write `<{tag}>` before they answer, and `</{tag}>` after.",
            f'The log shows "<{tag}>" and "</{tag}>", which you can ignore.',
            f"The <{tag}> element is not part of HTML. The </{tag}> tag closes it.",
            f"‘<{tag}>’ and “</{tag}>” are marks.",
            f"<p>{name} is <b>open</b> on {word}.</p>",
            f"<table><tr><td>{name}</td><td>{number}</td></tr></table>",
            f"Write to {name.split()[0]} <info@{word}.example> or see <https://{word}.example/?a=[{number}]>.",
            f"I think (and I did think about it) that {name} is best [1].\n[1]: {word}",
            f"[THINKING OF {word.upper()}?] We have {number} rooms.",
            f"My analysis: {name} is the better choice, for {number} reasons.",
            f"analysis of prices: {name} costs {number}, the assistant says.",
            f"I will search_hotels for you in the {word}, then book({name}) if you agree.",
            f"You could call `search_hotels(area=\"{word}\")` yourself, or `book(hotel='{name}')`.",
            f"The function search_hotels takes an area ({word}) and stars ({number}).",
            f"```{fence}\nfor (let i = 0; i < {number}; i++) {{ console.log(`<${{i}}>`); }}\n```",
            f"```sh\ncurl -d '{row}' http://x/{word} > out.json 2>&1\n```",
            f"f(x) = {{x | x < {number}}}, g(y) = [y, {number})",
            f"C++: `std::map<std::string, std::vector<int>> m; if (a << {number} >> 2) {{}}`",
            f"{{{name}}} is a placeholder, like <{word}> or [{word}] or ${{{word}}}.",
            f'The reply was {{"error": "no <{tag}> found", "code": {number}}}.',
            f"It's {name}'s \"{word}\" offer: 5' 10\" <= {number}'' wide.",
            f"Action: we book {name}.\nObservation: it costs {number}.",
            f"Step 1. Choose {name}.\nStep 2. Pay {number}.\nFinal answer: {word}.",
            f"1 <2 and 3> 2; <3 to all of {name}!",
            f"Your reference is <|{number}|> and the hash #[{word}].",
        )
    )


# --- long bodies ------------------------------------------------------------------------------------------------------

_UNITS = (
    *("<think>", "</think>", "<think></think>", "`</think>`", '"</think>"', "‘</think>", "```\n</think>\n", "<think/>"),
    *("[THINK]", "[/THINK]", "◁think▷", "<|channel|>analysis<|message|>x", "<|channel|>final", "<|start|>assistant"),
    *("<think>a</thinking>", "<answer>", "assistantfinal", "assistantcommentary to=", "commentary to=a", "to=search "),
    *("<tool_call>", "<tool_call>\n{", '<tool_call>{"name": "book"}', "[TOOL_CALLS]book", "<function=book>"),
    *('<invoke name="book">', "<function=book><parameter=a>", "<tool_call>book<arg_key>", "call:book{", "functools["),
    *("{", "[", '{"a":', "[{", "\n{", "\n[", '\n{"name":"book",', "book(", "\nbook(", "print(", "'name': 'book' "),
    *(
        "Action: book\nAction Input: ",
        "Action: ",
        "\n***",
        " ",
        "\n",
        " \n",
        "\t",
        "<",
        "</",
        "< ",
        "```",
        "`",
        "\\",
        '"',
    ),
    *("a", "0", "é", "data: {}\n\n", 'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', "limit 1 ", "model a "),
)
_HEADS = ("", "Hello ", "<think>", "<answer>", "<tool_call>", "analysis", "x<|message|>assistant", "{", "<")
_TAILS = ("", "x", "x<", "</think>", "assistantfina", '"}')


def repeated_marks(random: Random, size: int) -> str:
    """About `size` characters of one or two repeated pieces between a beginning and an end."""
    unit = "".join(random.choices(_UNITS, k=random.choice((1, 1, 2))))
    return random.choice(_HEADS) + unit * (size // len(unit)) + random.choice(_TAILS)
