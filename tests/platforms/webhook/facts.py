"""What tests know of a webhook of the user's own."""

from __future__ import annotations

from servers.facts import Facts

FACTS = Facts(target="bob", credentials=lambda url: {"url": f"{url}/hook"})
