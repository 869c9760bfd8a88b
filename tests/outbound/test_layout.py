"""What becomes of a message on platforms that show more, or less."""

from __future__ import annotations

from typing import Any

import pytest

from msgcore.core.content import SendOptions
from msgcore.outbound.layout import ButtonRules, FileRules, Layout, PollRules, Shows, lay_out
from msgcore.outbound.rich.dialect import PLAIN
from servers.deliveries import make_content

LITTLE = Shows(dialect=PLAIN, text=100)
MUCH = Shows(
    dialect=PLAIN,
    text=100,
    caption=20,
    files=FileRules({"document": 1000}),
    buttons=ButtonRules(most=2, text=10, value=10),
    embeds=1,
    location=True,
    contact=True,
    poll=PollRules(20, 3, 10),
    subject=True,
    silent=True,
    threads=True,
)
FILE = {"data": "QUJD", "filename": "a.txt"}
LINK = {"url": "https://x.example/a.txt", "filename": "a.txt"}
PLACE = {"latitude": 52.5, "longitude": 13.4, "name": "Berlin"}
BOTH = [{"text": "Yes", "value": "y"}, {"text": "No"}]


def laid_out(shows: Shows, content: dict[str, Any], **options: Any) -> Layout:
    return lay_out(make_content(**content), SendOptions(**options), shows)


# content, its text where little is shown, and the rules by which it is shown so
LITTLE_IS_SHOWN = [
    ({"text": "a"}, ["a"], []),
    ({"subject": "S", "text": "a"}, ["S\n\na"], ["first-line"]),
    ({"text": "a", "buttons": BOTH}, ["a\n\n1. Yes\n2. No"], ["numbered-list"]),
    (
        {"text": "a", "buttons": [{"text": "Go", "url": "https://x.example/"}, *BOTH]},
        ["a\n\nGo (https://x.example/)\n\n1. Yes\n2. No"],
        ["link", "numbered-list"],
    ),
    ({"text": "a", "embeds": [{"title": "T", "description": "D"}]}, ["a\n\nT\n\nD"], ["text"]),
    ({"attachments": [{**LINK, "caption": "C"}]}, ["a.txt (https://x.example/a.txt)\n\nC"], ["link"]),
    ({"location": PLACE}, ["Berlin (https://www.openstreetmap.org/?mlat=52.5&mlon=13.4)"], ["link"]),
    ({"contact": {"name": "Ann", "phone": "+491"}}, ["Ann\n+491"], ["text"]),
    ({"poll": {"question": "Q", "options": ["a", "b"]}}, ["Q\n\n1. a\n2. b"], ["numbered-list"]),
    ({"text": "word " * 30}, [("word " * 20).strip(), ("word " * 10).strip()], ["split"]),
]


@pytest.mark.parametrize(("content", "texts", "rules"), LITTLE_IS_SHOWN)
def test_what_cannot_be_shown_becomes_text(content: dict[str, Any], texts: list[str], rules: list[str]) -> None:
    layout = laid_out(LITTLE, content)
    assert layout.texts == texts
    assert [each.rule for each in layout.degradations] == rules
    assert layout.errors == []
    refused = laid_out(LITTLE, content, degradation="refuse")
    assert len(refused.errors) == len(rules)


MUCH_IS_SHOWN = [
    ({"text": "a", "buttons": BOTH}, {"texts": ["a"], "buttons": 2}),
    ({"text": "a", "embeds": [{"title": "T"}]}, {"texts": ["a"], "embeds": 1}),
    ({"text": "short", "attachments": [FILE]}, {"texts": [], "captions": ["short"]}),
    ({"text": "longer than a caption may be", "attachments": [FILE]}, {"captions": [None]}),
    ({"text": "short", "attachments": [{**FILE, "caption": "own"}]}, {"texts": ["short"], "captions": ["own"]}),
    ({"attachments": [{**FILE, "caption": "c" * 30}]}, {"texts": ["c" * 30], "captions": [None]}),
    ({"location": PLACE, "contact": {"name": "A", "phone": "123"}}, {"texts": []}),
    ({"poll": {"question": "Q", "options": ["a", "b"], "multiple": True}, "subject": "S"}, {"texts": []}),
]


@pytest.mark.parametrize(("content", "expected"), MUCH_IS_SHOWN)
def test_what_can_be_shown_is_left_to_the_platform(content: dict[str, Any], expected: dict[str, Any]) -> None:
    layout = laid_out(MUCH, content, silent=True, thread_id="1")
    assert layout.degradations == []
    shown = {"texts": layout.texts, "captions": layout.captions}
    shown |= {"buttons": len(layout.buttons), "embeds": len(layout.embeds)}
    assert shown | expected == shown


TOO_MUCH = [
    {"buttons": [*BOTH, {"text": "Maybe"}]},
    {"buttons": [{"text": "Yes", "value": "v" * 11}]},
    {"buttons": [{"text": "More than ten"}]},
    {"embeds": [{"title": "T"}, {"title": "U"}]},
    {"contact": {"name": "A"}},
    {"poll": {"question": "Q", "options": ["a", "b", "c", "d"]}},
]


@pytest.mark.parametrize("content", TOO_MUCH)
def test_beyond_its_limits_it_becomes_text(content: dict[str, Any]) -> None:
    layout = laid_out(MUCH, {"text": "a", **content})
    assert [each.field for each in layout.degradations] == [f"content.{next(iter(content))}"]


REFUSED = [
    ({"attachments": [FILE]}, {}, LITTLE, "/content/attachments/0/data"),
    ({"buttons": BOTH}, {}, MUCH, "/content/text"),
    ({"text": "word " * 30}, {"long_text": "refuse"}, LITTLE, "/content"),
    ({"text": "word " * 500}, {}, LITTLE, "/content"),
    ({"markdown": "x" * 100_001}, {}, LITTLE, "/content/markdown"),
]


@pytest.mark.parametrize(("content", "options", "shows", "pointer"), REFUSED)
def test_what_is_refused(content: dict[str, Any], options: dict[str, Any], shows: Shows, pointer: str) -> None:
    [error] = laid_out(shows, content, **options).errors
    assert error.pointer == pointer


LONG = ["hello\n\n" * 40_000, "<&>" * 300_000, "word " * 200_000, "a" * 900_000, "x\n" * 400_000]


@pytest.mark.parametrize("text", LONG, ids=["paragraphs", "signs", "words", "one word", "lines"])
def test_what_is_far_too_long_is_not_cut_at_all(text: str) -> None:
    seen: list[int] = []

    def measure(written: str) -> int:
        seen.append(len(written))
        return len(written)

    [error] = laid_out(Shows(dialect=PLAIN, text=4096, measure=measure), {"text": text}).errors
    assert error.pointer == "/content"
    assert len(seen) == 1


def test_many_short_paragraphs_are_cut_with_few_looks() -> None:
    seen: list[int] = []

    def measure(written: str) -> int:
        seen.append(len(written))
        return len(written)

    layout = laid_out(Shows(dialect=PLAIN, text=4096, measure=measure), {"text": "hello\n\n" * 8_000})
    assert len(layout.texts) == 14
    assert sum(seen) < 40 * 8_000 * len("hello\n\n")


def test_options_without_a_meaning_are_named() -> None:
    layout = laid_out(LITTLE, {"text": "a"}, silent=True, thread_id="1", reply_to="2")
    assert [each.field for each in layout.degradations] == ["options.silent", "options.threadId"]


APART = Shows(
    dialect=PLAIN,
    text=100,
    caption=20,
    files=FileRules({"document": 1000}),
    buttons=ButtonRules(most=3, text=10, value=10, alone=True, body=30),
)
SIX = "word word word word word word"
OPEN = {"text": "Go", "url": "https://x.example/"}

# content, its texts where buttons need one of up to 30 characters, and how many buttons there are
BELOW_A_TEXT = [
    ({"text": "short", "buttons": BOTH}, ["short"], 2),
    ({"text": "short", "buttons": BOTH, "attachments": [FILE]}, ["short"], 2),
    ({"text": "word " * 14, "buttons": BOTH}, [f"{SIX}\n\n{SIX}", "word word"], 2),
    ({"text": "One paragraph of a few words.\n\nPick", "buttons": BOTH}, ["One paragraph of a few words.", "Pick"], 2),
    ({"text": "see", "buttons": [OPEN]}, ["see"], 1),
    ({"text": "see", "buttons": [OPEN, *BOTH]}, ["see\n\nGo (https://x.example/)\n\n1. Yes\n2. No"], 0),
]


@pytest.mark.parametrize(("content", "texts", "buttons"), BELOW_A_TEXT)
def test_buttons_may_need_a_text_of_their_own(content: dict[str, Any], texts: list[str], buttons: int) -> None:
    layout = laid_out(APART, content)
    assert (layout.texts, len(layout.buttons), layout.errors) == (texts, buttons, [])


def test_a_file_is_no_text_for_buttons_that_need_one() -> None:
    layout = laid_out(APART, {"buttons": BOTH, "attachments": [{**FILE, "caption": "own"}]})
    assert [error.pointer for error in layout.errors] == ["/content/text"]
