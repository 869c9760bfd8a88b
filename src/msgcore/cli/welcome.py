"""What a person reads when the server has started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_MEANINGS = {
    "secrets.json": "secrets; keep a copy, stored credentials cannot be read without them",
    "msgcore.db": "database",
}


def ready_line(url: str) -> str:
    """The one line that says where the API is; scripts may wait for it."""
    return f"ready on {url}"


def created_lines(created: Sequence[Path]) -> list[str]:
    """What the first start made, one line each."""
    return ["MsgCore starts for the first time and made:"] + [
        f"  {path}  {_MEANINGS.get(path.name, 'data directory')}" for path in created
    ]


def next_steps(url: str) -> str:
    """From nothing to a first message through the sandbox, as commands to paste into a shell."""
    return _FIRST_MESSAGE.replace("<url>", url)


_FIRST_MESSAGE = r"""
Next, in another terminal: sign up (the first account is the administrator) and send a message.

  API=<url>/api/v1; JSON='Content-Type: application/json'
  field() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/"; }

  TOKEN=$(curl -s $API/auth/signup -H "$JSON" \
    -d '{"email":"you@example.com","password":"Passw0rd1","name":"You"}' | field accessToken)
  curl -s $API/projects -H "$JSON" -H "Authorization: Bearer $TOKEN" -d '{"id":"first","name":"First"}'
  KEY=$(curl -s $API/projects/first/keys -H "$JSON" -H "Authorization: Bearer $TOKEN" \
    -d '{"name":"first","scopes":["messages:read","messages:write","platforms:read","platforms:write"]}' | field key)
  ACCOUNT=$(curl -s $API/projects/first/platforms -H "$JSON" -H "X-API-Key: $KEY" \
    -d '{"platform":"sandbox","name":"try","credentials":{}}' | field id)
  curl -s $API/projects/first/messages/send -H "$JSON" -H "X-API-Key: $KEY" \
    -d '{"targets":[{"platformId":"'$ACCOUNT'","type":"user","id":"ann"}],"content":{"text":"Hello"}}'

The API is documented at <url>/docs; `msgcore config` lists the settings.
"""
