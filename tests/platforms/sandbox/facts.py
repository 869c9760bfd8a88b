"""What tests know of the sandbox."""

from __future__ import annotations

from servers.facts import Facts

FACTS = Facts(target="bob")
