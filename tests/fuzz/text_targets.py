"""What callers write, in every platform's dialect: it is shown or refused, fits, and is no markup that was not meant."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from typing import Any

from hypothesis import strategies as st

from fuzz.mutation import ODD_TEXTS
from fuzz.target import Target
from msgcore.core.content import Content, SendOptions
from msgcore.outbound.html_tokens import tokens
from msgcore.outbound.layout import lay_out
from msgcore.outbound.markdown import to_html
from msgcore.outbound.plain_text import html_to_text
from msgcore.outbound.rich.dialect import Dialect
from msgcore.outbound.rich.tree import plain
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.slack.mrkdwn import read as read_mrkdwn

REGISTRY = PlatformRegistry()
OPTIONS = SendOptions()

MARKDOWN = (
    *("**", "*", "_", "__", "~~", "`", "```", "```py\n", "\n", "\n\n", "  \n", "\\", "> ", "> > ", "- ", "* ", "1. ", "999999999. "),
    *("# ", "###### ", "---\n", "|a|b|\n|-|-|\n|1|2|\n", "    code", "\t", " ", "a", "word ", "A sentence. ", "\u00e9", "\U0001f468\u200d\U0001f469"),
    *("[x](", "](", "](javascript:alert(1))", "](https://x.example/?a=1&b=2)", ")", "![", "![i](https://x.example/i.png)"),
    *("<https://x.example/>", "<javascript:alert(1)>", "<a@b.example>", "https://x.example/_a_*b*", "[r]: https://x.example 't'\n", "[r]"),
    *("<script>", "</script>", "<b>", "<img src=x onerror=alert(1)>", "&lt;", "&#106;avascript:", "&#x0;", "\0", "\u202e", "\u2028"),
    *("java\nscript:", "JAVASCRIPT:x", "data:text/html,<b>", "vbscript:x", "<!--", "-->", "]]>", '"', "'", "||", "<@U1>", "@everyone", "<t:1>"),
)  # fmt: skip
HTML = (
    *("<p>", "</p>", "<b>", "</b>", "<i>", "<u>", "<s>", "<code>", "<pre>", "</pre>", "<br>", "<hr>", "<ul>", "<ol start=3>", "<ol start='9999999999'>"),
    *("<li>", "</ul>", "</ol>", "<blockquote>", "</blockquote>", "<table><tr><td>", "</table>", "<h1>", "</h1>", "<div>", "</div>"),
    *("<a href='javascript:x'>", '<a href="https://x.example/?a=1&amp;b=\'">', "<a href=mailto:a@b.example>", "</a>", "<a href='java\tscript:x'>"),
    *("<img src=https://x.example/i alt='\"><script>'>", "<img src=javascript:x>", "<script>", "</script>", "<style>", "<!--", "-->", "<![CDATA["),
    *("<", ">", "&", "&amp;", "&lt;script&gt;", "&#60;", f"&#{'9' * 4500};", "&#xd800;", "&nbsp;", "text ", "\0", "\u2028", "'", '"', "<a b='", '<p x=">'),
)  # fmt: skip
VOID = frozenset(("br", "hr", "img"))
ALLOWED = {
    **{tag: frozenset[str]() for tag in ("p", "b", "i", "u", "s", "strong", "em", "del", "pre", "br", "hr", "ul", "li", "blockquote", "table", "thead", "tbody", "tr", "tg-spoiler")},
    **{f"h{level}": frozenset[str]() for level in range(1, 7)},
    **{tag: frozenset(("style",)) for tag in ("td", "th")},
    "a": frozenset(("href", "title")),
    "img": frozenset(("src", "alt", "title")),
    "code": frozenset(("class",)),
    "ol": frozenset(("start",)),
    "span": frozenset(("data-mx-spoiler",)),
}  # fmt: skip
SCHEMES = ("javascript", "vbscript", "data", "file")


def written(pieces: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Texts of these pieces, some of them long."""
    piece = st.sampled_from(pieces)
    short = st.lists(piece | st.sampled_from(ODD_TEXTS[:60]) | st.text(max_size=6), max_size=24).map("".join)
    several = st.builds(
        lambda text, times: text * times,
        st.lists(piece, min_size=1, max_size=5).map("".join),
        st.sampled_from((5, 60, 200)),
    )
    return st.one_of(short, short, short, several)


class _Wellformed(HTMLParser):
    """Raises AssertionError for what is opened and not closed in its order, or is not allowed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, f"<{tag}>"
        for name, value in attrs:
            assert name in ALLOWED[tag], f"<{tag} {name}>"
            if name in ("href", "src"):
                check_address(value or "")
            if name == "style":
                assert value in ("text-align:left", "text-align:right", "text-align:center"), value
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without its beginning"
        assert self.open[-1] == tag, f"</{tag}> within <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        assert "<" not in data, data[:100]

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    handle_decl = unknown_decl = handle_pi = handle_comment


def check_html(html: str) -> None:
    """Well-formed, with tags and attributes that are allowed, and no addresses that run something."""
    parser = _Wellformed()
    parser.feed(html)
    parser.close()
    assert not parser.open, f"not closed: {parser.open}"


def check_address(address: str) -> None:
    """As browsers read it: without spaces and control characters."""
    bare = "".join(character for character in unescape(address) if character > " ").lower()
    assert not bare.startswith(SCHEMES) or ":" not in bare[:12], address


def is_html(dialect: Dialect) -> bool:
    """Whether a dialect is HTML, by how it escapes."""
    return dialect.escape("<b>") == "&lt;b&gt;" and any(before.startswith("<") for before, _ in dialect.marks.values())


def dialect_target(name: str, adapter: type[CallingAdapter]) -> Target:
    """A content in a platform's dialect."""

    def look(case: tuple[str, str]) -> None:
        kind, text = case
        content = Content(**{kind: text})
        shows = adapter.shows_of(content)
        layout = lay_out(content, OPTIONS, shows)
        rendering = REGISTRY.render(name, content)
        assert bool(rendering.errors) or rendering.calls
        for piece in () if layout.errors else layout.texts:
            assert shows.measure(piece) <= shows.text or len(piece) <= 64, f"{len(piece)} characters"
            piece.encode()
            if is_html(shows.dialect):
                check_html(piece)

    texts = st.one_of(
        st.tuples(st.just("markdown"), written(MARKDOWN)),
        st.tuples(st.just("html"), written(HTML)),
        st.tuples(st.just("text"), written(MARKDOWN)),
    )

    def read(text: str) -> None:
        adapter.shows.dialect.write(plain(text))
        adapter.shows.dialect.escape_code(text)

    return Target(f"{name}: its dialect", texts, look, read, ("*_a https://", "`", "<@", "\n", "&", "http://"))


def _look_at_markdown(text: str) -> None:
    check_html(to_html(text))
    html_to_text(to_html(text))


def _look_at_html(html: str) -> None:
    text = html_to_text(html)
    text.encode("utf-8", "surrogatepass")
    for tag, rest in tokens(html):
        assert tag is None or "<" not in tag
        assert isinstance(rest, str)


def _read_html(text: str) -> None:
    html_to_text(text)
    html_to_text(f"<a {text}>x</a><ol {text}><li>y")


HOSTILE_HTML = ("t", "t=", "t='", "<div>x", "<!--", "<a ", "</", "<a href='", "<ul><li>", "<b>x</b>y", "&#1", "&", "<li><div>x</div>", "<pre>x", "<td>", "<img src=http://x alt=", "<blockquote>x", "<h1>x", "<p>a<hr>", "<title>")  # fmt: skip
HOSTILE_MRKDWN = ("<", "<a|", "&", "&#1", "<@U1", ">", "|")


def targets() -> Iterator[Target]:
    """Those of texts."""
    yield Target("markdown to HTML", written(MARKDOWN), _look_at_markdown)
    yield Target("HTML to text", written(HTML), _look_at_html, _read_html, HOSTILE_HTML)
    yield Target(
        "Slack's markup to text",
        written(MARKDOWN + HTML),
        lambda text: read_mrkdwn(text).encode("utf-8", "surrogatepass"),
        read_mrkdwn,
        HOSTILE_MRKDWN,
    )
    for name in REGISTRY.names:
        adapter: Any = REGISTRY.adapter_class(name)
        if issubclass(adapter, CallingAdapter):
            yield dialect_target(name, adapter)
