"""Formatted text: read, written in dialects, and cut where it is too long."""

from __future__ import annotations

from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgcore.outbound.rich.dialect import PLAIN, Dialect
from msgcore.outbound.rich.html import read_html
from msgcore.outbound.rich.reading import read_markdown
from msgcore.outbound.rich.splitting import split
from msgcore.outbound.rich.tree import Blocks, Item, Listing, Mark, Paragraph, Run, plain
from msgcore.outbound.rich.whatsapp import WHATSAPP
from servers.growth import QUADRATIC, growth

TAGS = Dialect(
    "tags",
    marks={Mark.BOLD: ("<b>", "</b>"), Mark.ITALIC: ("<i>", "</i>"), Mark.CODE: ("<c>", "</c>")},
    heading=("<h>", "</h>"),
    quote=("<q>", "</q>"),
    code=("<pre {language}>", "</pre>"),
    escape=escape,
    escape_code=escape,
    link=lambda words, address: f"<a {address}>{words}</a>",
)
STARS = Dialect("stars", marks={Mark.BOLD: ("*", "*"), Mark.ITALIC: ("_", "_")}, heading=("*", "*"), joint="|")

MARKDOWN = [
    ("**b *bi* b**", "<b>b <i>bi</i> b</b>", "*b _bi_ b*"),
    ("**b**_i_", "<b>b</b><i>i</i>", "*b*|_i_"),
    ("un**friggin**believable", "un<b>friggin</b>believable", "un|*friggin*|believable"),
    ("a `c < d` e", "a <c>c &lt; d</c> e", "a c < d e"),
    ("# A *b*", "<h>A <i>b</i></h>", "*A _b_*"),
    ("[**b** c](https://x.example/)", "<a https://x.example/><b>b</b> c</a>", "*b* c (https://x.example/)"),
    ("> q\n> r", "<q>q\nr</q>", "> q\n> r"),
    ("> q\n> > r\n> - > s", "<q>q\n\nr\n\n- s</q>", "> q\n>\n> > r\n>\n> - > s"),
    ("```py\nx < 1\n```", "<pre py>x &lt; 1</pre>", "x < 1"),
    ("3. a\n4. b\n   - c", "3. a\n4. b\n   - c", "3. a\n4. b\n   - c"),
    ("|a|b|\n|-|-|\n|1|2|", "a | b\n1 | 2", "a | b\n1 | 2"),
    ("a\n\n---\n\nb", "a\n\n-----\n\nb", "a\n\n-----\n\nb"),
    ("![alt](https://x.example/i.png)", "<a https://x.example/i.png>alt</a>", "alt (https://x.example/i.png)"),
]


@pytest.mark.parametrize(("markdown", "tags", "stars"), MARKDOWN)
def test_markdown_in_two_dialects(markdown: str, tags: str, stars: str) -> None:
    assert TAGS.write(read_markdown(markdown)) == tags
    assert STARS.write(read_markdown(markdown)) == stars


def test_signs_never_stand_around_space() -> None:
    blocks: Blocks = (Paragraph((Run("a"), Run(" b ", frozenset((Mark.BOLD,))), Run("c"))),)
    assert STARS.write(blocks) == "a *b* c"


ON_WHATSAPP = [
    ("**b** _i_ ~~s~~ `c`", "*b* _i_ ~s~ `c`"),
    ("# Title\n\n> quoted\n> on", "*Title*\n\n> quoted\n> on"),
    ("**two\nlines**", "*two*\n*lines*"),
    ("un**friggin**believable", "un\u200b*friggin*\u200bbelievable"),
    ("```py\nx = '`'\n```", "```x = '\u02cb'```"),
    ("[words](https://x.example/)", "words (https://x.example/)"),
    (r"\*not bold\* and \_this\_", "*\u200anot bold* and _\u200athis_"),
    (r"\*\*twice\*\*", "*\u200a*\u200atwice*\u200a*"),
    ("snake_case_name, 2 * 3 * 4, 5* and *", "snake_case_name, 2 * 3 * 4, 5* and *"),
    ("one * line\\\n\\*and another", "one * line\n*and another"),
]


@pytest.mark.parametrize(("markdown", "written"), ON_WHATSAPP)
def test_whatsapps_signs_are_written_and_those_of_a_text_are_none(markdown: str, written: str) -> None:
    assert WHATSAPP.write(read_markdown(markdown)) == written


def test_addresses_stay_as_they_are_on_whatsapp() -> None:
    text = "https://x.example/_a_?q=*b* *c* _d"
    assert WHATSAPP.write(plain(text)) == "https://x.example/_a_?q=*b* *\u200ac* _d"


HTML = [
    ("<b>a <i>b</i></b>", "<b>a <i>b</i></b>"),
    ("<p>a<p>b", "a\n\nb"),
    ("<blockquote><p>a</p><blockquote>b</blockquote></blockquote>c", "<q>a\n\nb</q>\n\nc"),
    ("<ol start=3><li>a<li>b</ol>", "3. a\n4. b"),
    ("<h2>T</h2>x", "<h>T</h>\n\nx"),
    ('<a href="javascript:x">y</a>', "y"),
    (
        '<img alt="i" src="javascript:x"> <img src=x.png alt=j> <img src=HTTPS://x.example/>',
        "i j <a HTTPS://x.example/>HTTPS://x.example/</a>",
    ),
    ("<b>never closed", "<b>never closed</b>"),
    ("</b>closed</i></blockquote></li>", "closed"),
    ("<li>alone", "- alone"),
    ("<script>a</script>b<style>c", "b"),
    ("a<div>b<h2>T</h2>c<div>d<ul>e<div>f<li>g</ul>h", "a\nb\n\n<h>T</h>\n\nc\nd\n\ne\nf\n\n- g\n\nh"),
]


@pytest.mark.parametrize(("html", "tags"), HTML)
def test_html(html: str, tags: str) -> None:
    assert TAGS.write(read_html(html)) == tags


PIECES = [
    ("One sentence. Another one.", 20, ["One sentence.", "Another one."]),
    ("one two three four", 10, ["one two", "three four"]),
    ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
    ("first\n\nsecond\n\nthird", 15, ["first\n\nsecond", "third"]),
    ("**bold words go on**", 15, ["<b>bold</b>", "<b>words go</b>", "<b>on</b>"]),
    ("- one\n- two\n- three", 11, ["- one\n- two", "- three"]),
    ("```\na\nb\nc\n```", 20, ["<pre >a\nb\nc</pre>"]),
    ("> quoted text here", 14, ["<q>quoted</q>", "<q>text</q>", "<q>here</q>"]),
    ("", 10, []),
]


@pytest.mark.parametrize(("markdown", "limit", "pieces"), PIECES)
def test_pieces(markdown: str, limit: int, pieces: list[str]) -> None:
    found = list(split(read_markdown(markdown), lambda blocks: len(TAGS.write(blocks)), limit))
    assert [TAGS.write(piece) for piece in found] == pieces


def test_what_a_reader_takes_for_one_character_stays_whole() -> None:
    family = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
    pieces = list(split(plain(family * 10), lambda blocks: len(PLAIN.write(blocks)), 12))
    assert [PLAIN.write(piece) for piece in pieces] == [family * 2] * 5


@given(st.text(alphabet="ab .\n*_`>#-1[]()<|\u00e9\U0001f600", max_size=300), st.integers(1, 40))
def test_nothing_is_lost_and_every_piece_fits(markdown: str, limit: int) -> None:
    blocks = read_markdown(markdown)
    pieces = list(split(blocks, lambda some: len(PLAIN.write(some)), limit))
    whole = "".join(c for c in PLAIN.write(blocks) if c.isalpha())
    assert "".join(c for piece in pieces for c in PLAIN.write(piece) if c.isalpha()) == whole
    written = [PLAIN.write(piece) for piece in pieces]
    # Shorter than the signs of its own block (a mark of a list, an address) nothing can be.
    assert all(len(text) <= limit or len(text) <= 40 for text in written)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60), st.integers(100, 300))
def test_each_piece_of_a_list_holds_as_many_rows_as_fit(lengths: list[int], limit: int) -> None:
    rows = tuple(Item(None, (Paragraph((Run("x" * length),)),)) for length in lengths)

    def size(some: Blocks) -> int:
        return len(PLAIN.write(some))

    expected: list[tuple[Item, ...]] = []
    for row in rows:  # one row after the other, as a person would
        if expected and size((Listing((*expected[-1], row)),)) <= limit:
            expected[-1] = (*expected[-1], row)
        else:
            expected.append((row,))
    assert list(split((Listing(rows),), size, limit)) == [(Listing(each),) for each in expected]


HOSTILE = [
    "<b>x",
    "<a href=http://x>y",
    "<br> ",
    "<b>",
    "< ",
    "<b>x</b>y",
    "<ul>",
    "<blockquote>",
    "<li>",
    "<a href=x>",
    "<b><i>",
    "</b>",
    "<pre>",
    "<td>",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_grows_with_the_length_only(piece: str) -> None:
    assert growth(lambda html: TAGS.write(read_html(html)), piece, 4_000) < QUADRATIC / 2


def test_so_does_the_time_for_whatsapps_signs() -> None:
    assert growth(lambda text: WHATSAPP.write(plain(text)), "*_a https://", 4_000) < QUADRATIC / 2
