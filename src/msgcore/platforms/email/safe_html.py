"""HTML of mails as a page of somebody else's may show it: written anew from what is known to do no harm."""

from __future__ import annotations

import re
from typing import Final

import nh3

MOST_TAGS: Final = 10_000
LARGEST_SHOWN: Final = 500_000
"""Characters that the outcome may have."""

# An element of formatting that is left open is opened again in each paragraph that follows, by the rules of HTML; three
# of a kind at most, unless they differ in their attributes. A small mail could become millions of elements that way.
_FORMATTING: Final = re.compile(
    r"<(?:big|code|font|nobr|small|strike|tt)(?=[\s/>])[^>]*>|<(?P<kept>b|em|i|s|strong|u)(?=[\s/>])[^>]*>",
    re.IGNORECASE,
)
_CLEANER: Final = nh3.Cleaner(
    # No pictures: those of a server tell it who reads when and where, and those of the mail are attachments.
    attributes={
        "a": {"href", "title"},
        "img": {"alt"},
        "ol": {"start"},
        **{cell: {"colspan", "rowspan", "align"} for cell in ("td", "th")},
    },
    clean_content_tags={"script", "style", "title"},
    url_schemes={"http", "https", "mailto", "tel"},
    url_relative="deny",  # which would be addresses of whoever shows it
    link_rel="noopener noreferrer nofollow",
)


def safe_html(html: str) -> str | None:
    """What is left of a mail's HTML without scripts, styles, forms and pictures; None where that is too much.

    The rest of a mail with very many tags is left out.
    """
    pieces = html.split("<", MOST_TAGS + 1)
    bounded = "<".join(pieces[: MOST_TAGS + 1])
    cleaned = _CLEANER.clean(_FORMATTING.sub(lambda found: f"<{found['kept']}>" if found["kept"] else "", bounded))
    return cleaned if len(cleaned) <= LARGEST_SHOWN else None
