"""Whatever is in a text, eight times as much of it takes no more than some eight times the work, on every platform.

Work is counted in calls, as the profiler sees them, so that no clock is asked.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import convert

from msgcore.core.content import MOST_EMBEDDED, Content, Embed, EmbedFooter, SendOptions
from msgcore.outbound.layout import AS_GIVEN, MOST_PIECES, Layout, lay_out
from msgcore.outbound.markdown import DEEPEST
from msgcore.outbound.rich.dialect import PLAIN, text_of
from msgcore.outbound.rich.html import read_html
from msgcore.outbound.rich.reading import read_markdown
from msgcore.platforms.registry import PlatformRegistry

REGISTRY = PlatformRegistry()
SHORT = 250
"""Characters."""
MOST = 14
"""How many times the work eight times as much may take. Quadratic work would take 64 times as much."""
CALLS_AT_ONCE = 100_000
"""For a text that is rendered on the event loop, which takes some 8 ms: matrix reads what it has written once more."""
MESSAGES = 3
"""How many messages a text becomes in these tests, however long it is: what a cut costs grows with the message."""

REPEATED = (
    *("![", "[", "[]", "[a](", "[a](b) ", "[a](<b", '[a](b "', "[![a](b)](c) ", "_a_ ", "a*", "*a ", "**a ", "*a**b "),
    *(
        "***a",
        "~~a",
        "~~~a ",
        "`",
        "`a` ",
        "`a",
        "<",
        "<a",
        "<!--",
        "<a@b.c>",
        "&",
        "&#",
        "&amp;",
        "\\",
        "\\*",
        "a  \n",
    ),
    *("> a\n", ">", "- a\n", "- a\n\n", "- ", "1. a\n", "- a\n+ a\n", "[a]: b\n", "[a\n", "# a\n", "a\n=\n", "a\n\n"),
    *("|a|\n|-|\n|c|\n\n", "```\na\n```\n", "    a\n", "a", "a\n", "abc de. ", "\U0001f1e9\U0001f1ea", "a\u0301"),
)
GROWING: dict[str, Callable[[int], str]] = {
    "lazy quotes": lambda length: "> " * 50 + "a\n" + "b\n" * (length // 2),
    "deep lists": lambda length: "".join("  " * (line % 60) + "- a\n" for line in range(length // 64)),
    "short rows": lambda length: "|" * 30 + "a\n" + "|-" * 30 + "\n" + "a\n" * (length // 2),
    "balanced brackets": lambda length: "[" * (length // 2) + "]" * (length // 2),
    "emphasis": lambda length: "*a " * (length // 6) + "a* " * (length // 6),
    "rows of backticks": lambda length: "a".join("`" * number for number in range(1, int((2 * length) ** 0.5))),
}
HTML = ("<div>a", "<li>a", "<ul><li>a", "<b>", "<tr><td>a", "<blockquote>a</blockquote>", "<!--", "<", '<a href="')
HTML_GROWING: dict[str, Callable[[int], str]] = {
    "attribute without a value": lambda length: f"<img {'a' * length}>",
    "attributes": lambda length: f"<a {'a=b ' * (length // 4)}>",
}


def repeated(part: str) -> Callable[[int], str]:
    return lambda length: part * (length // len(part))


MARKDOWN_TEXTS = {**{part: repeated(part) for part in REPEATED}, **GROWING}
HTML_TEXTS = {**{part: repeated(part) for part in HTML}, **HTML_GROWING}


def work(of: Callable[[], object]) -> int:
    """How many functions are called, of Python and of C."""
    calls = 0

    def count(_frame: object, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        of()
    finally:
        sys.setprofile(before)
    return calls


def growth(of: Callable[[str], object], text: Callable[[int], str]) -> float:
    """How many times the work eight times as much takes."""
    of(text(SHORT))  # whatever is made once
    return work(lambda: of(text(8 * SHORT))) / work(lambda: of(text(SHORT)))


@pytest.mark.parametrize("name", MARKDOWN_TEXTS)
def test_markdown_is_read_in_time(name: str) -> None:
    assert growth(read_markdown, MARKDOWN_TEXTS[name]) < MOST


@pytest.mark.parametrize("name", HTML_TEXTS)
def test_html_is_read_in_time(name: str) -> None:
    assert growth(read_html, HTML_TEXTS[name]) < MOST


def test_attributes_are_found_in_time() -> None:
    # Within the regular expression nobody counts: it would take hours where each letter begins a new try.
    assert read_html(f"<img {'a' * 1_000_000} alt=b>") == read_html("<img alt=b>")


@pytest.mark.parametrize("name", [*MARKDOWN_TEXTS, *HTML_TEXTS])
def test_what_is_rendered_on_the_event_loop_is_little(name: str) -> None:
    kind, text = ("markdown", MARKDOWN_TEXTS[name]) if name in MARKDOWN_TEXTS else ("html", HTML_TEXTS[name])

    def content(length: int) -> Content:
        return convert({"subject": "s", kind: text(length)}, Content)

    longest = bisect_left(range(20 * SHORT), True, key=lambda length: content(length).is_long()) - 1
    rendered = content(longest)
    assert work(lambda: REGISTRY.render("matrix", rendered, SendOptions())) < CALLS_AT_ONCE


CUT = ("- a\n", "- > a\n", "> a\n\nb\n\n", "a\n\n", "_a_ ", "abc de. ")


@pytest.mark.parametrize("name", REGISTRY.names)
def test_texts_are_cut_in_time(name: str) -> None:
    shown = REGISTRY.adapter_class(name).shows

    def laid_out(text: str) -> Layout:
        shows = replace(shown, text=len(text) // MESSAGES, caption=None, buttons=None)
        return lay_out(Content(subject="s", markdown=text), SendOptions(), shows)

    assert {part: grown for part in CUT if (grown := growth(laid_out, repeated(part))) >= MOST} == {}


def test_no_more_pieces_are_worked_out_than_a_text_may_become() -> None:
    shows = replace(AS_GIVEN, dialect=PLAIN, text=60)
    contents = [Content(markdown="- a\n" * number) for number in (580, 590)]
    layouts = [lay_out(content, SendOptions(), shows) for content in contents]
    assert [len(layout.texts) for layout in layouts] == [MOST_PIECES + 1] * 2
    assert [error.pointer for layout in layouts for error in layout.errors] == ["/content"] * 2


def test_what_is_nested_too_deep_is_text_and_not_lost() -> None:
    assert "> > inside" in text_of(read_markdown("> " * (DEEPEST + 2) + "inside"))
    assert text_of(read_markdown("> " * 8 + "a\n\n" * 10_000)).count("a") == 10_000


@pytest.mark.parametrize("name", REGISTRY.names)
def test_embeds_have_a_limit_together(name: str) -> None:
    half = "x" * (MOST_EMBEDDED // 2)
    embeds = [Embed(description=half), Embed(description=half[:-5], title="xx", footer=EmbedFooter(text="xxxx"))]
    errors = REGISTRY.check_content(name, Content(subject="s", text="t", embeds=embeds))
    assert [error.pointer for error in errors] == ["/content/embeds"]
