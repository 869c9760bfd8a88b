"""What tests know of e-mail."""

from __future__ import annotations

from servers.facts import Facts

FACTS = Facts(target="bob@example.com", message_id="<17@example.com>")
