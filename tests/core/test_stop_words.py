"""Which texts opt somebody out, or in again."""

from __future__ import annotations

import pytest

from msgcore.core.stop_words import MAILS, SHORT_MESSAGES, StopWords, Wish


@pytest.mark.parametrize(
    ("text", "short", "mail"),
    [
        ("STOP", Wish.OUT, Wish.OUT),
        (" stop!\n", Wish.OUT, Wish.OUT),
        ("Stop All", Wish.OUT, Wish.OUT),
        ("opt-out", Wish.OUT, Wish.OUT),
        ("ＳＴＯＰ", Wish.OUT, Wish.OUT),
        ("ARRET", Wish.OUT, None),
        ("arrêt.", Wish.OUT, None),
        ("İptal", Wish.OUT, None),
        ("СТОП", Wish.OUT, None),
        ("Abmelden", Wish.OUT, Wish.OUT),
        ("Cancel", Wish.OUT, None),  # in a mail it may be about an order
        ("yes", Wish.IN, None),
        ("Start", Wish.IN, Wish.IN),
        ("please stop", None, None),
        ("stop it now", None, None),
        ("unsubscribe " * 20, None, None),
        ("", None, None),
        ("\U0001f6d1", None, None),
    ],
)
def test_a_word_counts_as_a_whole(text: str, short: Wish | None, mail: Wish | None) -> None:
    for words, expected in ((SHORT_MESSAGES, short), (MAILS, mail)):
        found = words.wish([text], proven=True)
        assert (found and found[0]) == expected, words


def test_where_anybody_may_write_in_anothers_name_only_a_proven_author_opts_in() -> None:
    words = StopWords({"en": ("stop",)}, {"en": ("start",)}, needs_proof=True)
    assert words.wish(["start"], proven=False) is None
    assert words.wish(["start"], proven=True) == (Wish.IN, "start")
    assert words.wish(["hello", "stop"], proven=False) == (Wish.OUT, "stop")
