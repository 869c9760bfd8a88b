"""Rules of envelopes that their shape alone does not tell."""

from __future__ import annotations

import msgspec
import pytest

from msgcore.core.envelope import Happening, Reaction


def test_only_a_reaction_that_is_taken_away_may_lack_its_emoji() -> None:
    taken = {"kind": "reaction", "messageId": "m", "emoji": "", "removed": True}
    assert msgspec.convert(taken, Happening) == Reaction(message_id="m", emoji="", removed=True)
    with pytest.raises(msgspec.ValidationError, match="has an emoji"):
        msgspec.convert(taken | {"removed": False}, Happening)
