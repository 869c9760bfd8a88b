"""Words with which somebody says that nothing more shall be sent to them, or that it may be again.

A message counts only if it is such a word as a whole; capitals, accents and punctuation make no difference.
Sources of the English ones: CTIA Messaging Principles and Best Practices, section 5.1.3 (STOP, END, CANCEL,
UNSUBSCRIBE, QUIT); 47 CFR 64.1200(a)(10) (revoke, opt out); Twilio's defaults, "Twilio support for opt-out keywords"
(STOPALL, OPTOUT; START, YES and UNSTOP). ARRET: Canadian Common Short Code Application Guidelines. RET and
IPTAL: Turkey's register of commercial messages (IYS). The others say the same in the words that people there use.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

LONGEST = 64
"""Characters of a text that may be a stop word: no longer one is looked at."""

_SPACES = re.compile(r"\s+")


class Wish(StrEnum):
    """What somebody wants: nothing more (`out`), or messages again (`in`)."""

    OUT = "out"
    IN = "in"


Words = Mapping[str, tuple[str, ...]]
"""Words by language (ISO 639-1)."""


@dataclass(frozen=True)
class StopWords:
    """The words that count on a platform.

    `needs_proof`: anybody can write there in another's name, so only somebody for whom the platform vouches opts in
    again. Opting out is believed in any case.
    """

    opt_out: Words
    opt_in: Words
    needs_proof: bool = False

    def wish(self, texts: Iterable[str], *, proven: bool) -> tuple[Wish, str] | None:
        """What texts of a message ask for, each taken as a whole, and by which word; None for other texts."""
        for text in texts:
            word = folded(text) if len(text) <= LONGEST else ""
            found = self._wishes.get(word)
            if found is Wish.OUT or (found is Wish.IN and (proven or not self.needs_proof)):
                return found, word
        return None

    @cached_property
    def _wishes(self) -> dict[str, Wish]:
        kinds = ((Wish.IN, self.opt_in), (Wish.OUT, self.opt_out))
        return {folded(word): wish for wish, words in kinds for some in words.values() for word in some}


def folded(text: str) -> str:
    """A text without what makes no difference: capitals, accents, punctuation, and how it is spaced."""
    letters = (char for char in unicodedata.normalize("NFKD", text.casefold()) if char.isalnum() or char.isspace())
    return _SPACES.sub(" ", "".join(letters)).strip()


SHORT_MESSAGES = StopWords(
    opt_out={
        "en": ("stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke", "optout", "opt out"),
        "de": ("stopp", "abmelden", "abbestellen"),
        "fr": ("arrêt", "arrêter", "désabonner", "désinscrire", "me désabonner"),
        "es": ("alto", "parar", "baja", "cancelar", "darme de baja"),
        "pt": ("parar", "sair", "cancelar", "descadastrar"),
        "it": ("ferma", "annulla", "disiscrivi", "disiscrivimi"),
        "nl": ("stoppen", "afmelden", "uitschrijven"),
        "pl": ("zatrzymaj", "anuluj", "rezygnuję", "wypisz"),
        "sv": ("stopp", "avsluta", "avregistrera"),
        "da": ("afmeld", "afslut"),
        "nb": ("stopp", "avslutt", "meld av"),
        "fi": ("lopeta", "peruuta"),
        "cs": ("zrušit", "odhlásit"),
        "tr": ("ret", "iptal"),
        "ru": ("стоп", "отписаться", "отмена"),
        "uk": ("стоп", "відписатися"),
    },
    opt_in={
        "en": ("start", "unstop", "yes", "optin", "opt in"),
        "de": ("anmelden",),
        "fr": ("démarrer", "réabonner"),
        "es": ("iniciar", "alta"),
        "pt": ("iniciar", "voltar"),
        "it": ("inizia", "iscrivimi"),
        "nl": ("aanmelden",),
        "pl": ("zapisz",),
        "ru": ("старт",),
    },
)
"""Of platforms on which people write short messages."""

MAILS = StopWords(
    opt_out={
        "en": ("unsubscribe", "unsubscribe me", "stop", "stopall", "stop all", "optout", "opt out"),
        "de": ("stopp", "abmelden", "abbestellen"),
        "fr": ("désabonner", "désabonnement", "désinscrire", "désinscription", "me désabonner"),
        "es": ("baja", "darme de baja", "cancelar suscripción"),
        "pt": ("descadastrar", "cancelar inscrição", "cancelar subscrição"),
        "it": ("disiscrivi", "disiscrivimi", "cancellami"),
        "nl": ("afmelden", "uitschrijven"),
        "pl": ("rezygnuję", "wypisz", "wypisz mnie"),
        "sv": ("avregistrera",),
        "da": ("afmeld",),
        "nb": ("meld av",),
        "fi": ("peruuta tilaus",),
        "cs": ("odhlásit",),
        "ru": ("отписаться",),
        "uk": ("відписатися",),
    },
    opt_in={"en": ("start", "unstop", "subscribe"), "de": ("anmelden",), "nl": ("aanmelden",)},
    needs_proof=True,
)
"""Of e-mails: a subject, or a first line. Words that begin an ordinary answer, such as CANCEL and YES, are left out."""
