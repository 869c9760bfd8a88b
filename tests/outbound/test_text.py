"""Markdown, HTML, plain text, and what becomes of embeds and buttons."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgcore.outbound.extras import extras_as_markdown
from msgcore.outbound.http import LONGEST_WAIT, as_seconds, retry_after
from msgcore.outbound.markdown import escape, to_html
from msgcore.outbound.plain_text import html_to_text
from servers.deliveries import make_content
from servers.growth import QUADRATIC, growth


def markdown_to_text(markdown: str) -> str:
    return html_to_text(to_html(markdown))


MARKDOWN = [
    ("**b** *i* ~~s~~ `c`", "<p><strong>b</strong> <em>i</em> <s>s</s> <code>c</code></p>\n", "b i s c"),
    ("# Title\n\ntext", "<h1>Title</h1>\n<p>text</p>\n", "Title\n\ntext"),
    ("[a](https://x.example/)", '<p><a href="https://x.example/">a</a></p>\n', "a (https://x.example/)"),
    ("<https://x.example/>", '<p><a href="https://x.example/">https://x.example/</a></p>\n', "https://x.example/"),
    ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>\n", "[a](javascript:alert(1))"),
    ("[a](data:text/html,x)", "<p>[a](data:text/html,x)</p>\n", "[a](data:text/html,x)"),
    ("<script>x</script>", "<p>&lt;script&gt;x&lt;/script&gt;</p>\n", "<script>x</script>"),
    ('<img src=x onerror="y">', "<p>&lt;img src=x onerror=&quot;y&quot;&gt;</p>\n", '<img src=x onerror="y">'),
    ('[a](x "onclick=\\"y\\"")', '<p><a href="x" title="onclick=&quot;y&quot;">a</a></p>\n', "a"),
    ("- a\n- b\n  - c", "<ul>\n<li>a</li>\n<li>b\n<ul>\n<li>c</li>\n</ul>\n</li>\n</ul>\n", "- a\n- b\n  - c"),
    ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>\n', "3. a\n4. b"),
]


@pytest.mark.parametrize(("markdown", "html", "text"), MARKDOWN)
def test_markdown(markdown: str, html: str, text: str) -> None:
    assert to_html(markdown) == html
    assert markdown_to_text(markdown) == text


HTML = [
    ("", ""),
    ("just text", "just text"),
    ("a &amp; b &lt;c&gt; &nbsp;&eacute;", "a & b <c> \u00a0é"),
    ("<p>one</p><p>two</p>", "one\n\ntwo"),
    ("<div>one</div><div>two</div>", "one\ntwo"),
    ("<p>Dear Bob. </p><p>Hi</p>", "Dear Bob.\n\nHi"),
    ("a<br>b<br/>c", "a\nb\nc"),
    ("  a \n\t b  ", "a b"),
    ("<pre>a  b\n  c</pre>", "a  b\n  c"),
    ("<b>bold</b><i> and </i>more", "bold and more"),
    ("<head><title>t</title><style>p{}</style></head><script>if (a<b) x()</script>shown", "shown"),
    ("a<!-- hidden -->b", "ab"),
    ("<!doctype html><?xml x?>a", "a"),
    ("<ul><li><p>a</p></li><li>b</li></ul>", "- a\n- b"),
    ('<a href="https://x.example/">there</a>', "there (https://x.example/)"),
    ('<a href="mailto:a@x.example">a@x.example</a>', "a@x.example"),
    ('<a href="#top">up</a>', "up"),
    ('<img alt="Logo" src="https://x.example/l.png">', "Logo (https://x.example/l.png)"),
    ('<img alt="Logo" src="cid:1">', "Logo"),
    ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a  b\nc"),
    ("a<hr>b", "a\n\n-----\n\nb"),
    ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
    ('<p title="a > b">x</p>', "x"),
    ("<p it's>x</p>", "x"),
    ("before <!-- never closed", "before "),
    ("before <a href='never closed", "before "),
    ("</ul></p></a>x", "x"),
    (f"&#{'1' * 5000};&#{'0' * 5000}65;&#{'0' * 9};", "\ufffdA\ufffd"),
]


@pytest.mark.parametrize(("html", "text"), HTML)
def test_html_to_text(html: str, text: str) -> None:
    assert html_to_text(html) == text.rstrip(" ")


@given(st.text(alphabet="<>/!-?abpli \"'=&;\n", max_size=200))
def test_html_to_text_takes_anything(html: str) -> None:
    html_to_text(html)


@given(st.text(max_size=100).filter(lambda text: "\x00" not in text))
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    shown = markdown_to_text(escape(text))
    assert " ".join(shown.split()) == " ".join(text.split())


HOSTILE = [
    "<!--",
    "<a ",
    "<!",
    "</",
    "<?",
    "<a href='",
    '<a href="x',
    "<a href=x>",
    "<ul><li>",
    "<p '",
    "&#",
    "<script>",
    "<",
]


WAITS = [
    ("120", 120.0),
    (" 7 ", 7.0),
    ("9" * 5000, 999_999_999.0),
    ("Wed, 06 May 2026 12:00:09 GMT", 9.0),
    ("Wed, 06 May 2026 12:00:09", 9.0),
    ("Wed, 06 May 2026 11:00:00 GMT", 0.0),
    ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
    *((each, None) for each in (None, "", "soon", "-1", "1e3", "\u0661", "Wed, 06 May 2026 99:00:00 GMT")),
    (f"Wed, 06 May {'9' * 20} 12:00:00 GMT", None),
    (f"Wed, 06 May 2026 12:00:00 +{'9' * 20}", None),
]


@pytest.mark.parametrize(("value", "seconds"), WAITS)
def test_how_long_others_ask_to_wait(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, datetime(2026, 5, 6, 12, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((1, 1.0), (0.25, 0.25), ("64.57", 64.57), ("0", 0.0), (10**30, LONGEST_WAIT), ("inf", LONGEST_WAIT)),
        *((each, None) for each in (-1, "-0.5", "nan", "soon", "", None, True, [], {}, 10**400, float("nan"))),
    ],
)
def test_a_wait_is_a_number_that_is_one(value: object, seconds: float | None) -> None:
    assert as_seconds(value) == seconds


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_grows_with_the_length_only(piece: str) -> None:
    assert growth(html_to_text, piece, 4_000) < QUADRATIC / 2


@pytest.mark.parametrize("piece", ["t", "t=", "t='", 't="', "t ", "-", " ", "="])
def test_so_does_the_time_for_attributes(piece: str) -> None:
    assert growth(lambda text: html_to_text(f"<a {text}>x"), piece, 3_000) < QUADRATIC / 2


EXTRAS = [
    ({}, ""),
    ({"buttons": [{"text": "Go *now*", "url": "https://x.example/a b)".replace(" ", "%20")}]}, "Go *now* (https://x.example/a%20b%29)"),
    ({"buttons": [{"text": "Yes", "value": "y"}, {"text": "2. No", "value": "n"}]}, "1. Yes\n2. 2. No"),
    ({"location": {"latitude": 1.5, "longitude": -2, "name": "A_B_"}}, "A_B_ (https://www.openstreetmap.org/?mlat=1.5&mlon=-2.0)"),
    ({"contact": {"name": "Ann *x*", "phone": "+49 151", "email": "a@example.com"}}, "Ann *x*\n\n+49 151\n\na@example.com"),
    ({"poll": {"question": "Tea?", "options": ["yes", "no"]}}, "Tea?\n\n1. yes\n2. no"),
    ({"attachments": [{"data": "QUJD", "caption": "A <b>caption</b>"}]}, "A <b>caption</b>"),
    (
        {"embeds": [{"author": {"name": "Ann", "url": "https://x.example/ann"}, "title": "T", "imageUrl": "https://x.example/i.png",
                     "fields": [{"name": "k", "value": "[v](w)"}], "footer": {"text": "foot"}, "timestamp": "2030-01-01"}]},
        "Ann (https://x.example/ann)\n\nT\n\nk: [v](w)\n\nhttps://x.example/i.png\n\nfoot · 2030-01-01",
    ),
    ({"embeds": [{"url": "https://x.example/"}]}, "https://x.example/"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "text"), EXTRAS)
def test_extras(content: dict[str, object], text: str) -> None:
    assert markdown_to_text(extras_as_markdown(make_content(**content))) == text
