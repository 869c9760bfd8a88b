"""How headers are written: plain ASCII as it is, since most readers of other headers than Subject decode nothing."""

from __future__ import annotations

from email import policy
from email.headerregistry import BaseHeader, HeaderRegistry, UnstructuredHeader
from email.policy import Policy

LINE = 78
"""Characters that a line should have at most, and..."""
LONGEST_WORD = 900
"""... a bit less than what it may have (RFC 5322, 2.1.1)."""


class PlainHeader(UnstructuredHeader, BaseHeader):
    """A header that is folded between words only.

    The standard library writes a word that does not fit into a line, such as an address in List-Unsubscribe or the
    id in References, as encoded words (RFC 2047), in which nobody finds it again.
    """

    def fold(self, *, policy: Policy) -> str:
        """The header in lines."""
        value = str(self)
        if not value.isascii() or max(map(len, value.split()), default=0) > LONGEST_WORD:
            return super().fold(policy=policy)
        first, *words = value.split(" ")
        lines = [f"{self.name}: {first}"]
        for word in words:
            if word and len(lines[-1]) + 1 + len(word) > LINE:
                lines.append("")
            lines[-1] += f" {word}"
        return policy.linesep.join(lines) + policy.linesep


_REGISTRY = HeaderRegistry(default_class=PlainHeader)
ASCII = policy.SMTP.clone(cte_type="7bit", header_factory=_REGISTRY)
UTF8 = policy.SMTPUTF8.clone(header_factory=_REGISTRY)
