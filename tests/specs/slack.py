"""Compares calls with the description of the Web API (`slack-web-api.json`) and of Block Kit.

What is newer than the description is written here from the methods' pages (docs.slack.dev/reference/methods).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

FORM, JSON = "application/x-www-form-urlencoded", "application/json"

SPEC: dict[str, Any] = msgspec.json.decode(Path(__file__).with_name("slack-web-api.json").read_bytes())


def _arguments(required: Mapping[str, str], optional: Mapping[str, str]) -> dict[str, Any]:
    known = {name: {"type": kind, "required": True} for name, kind in required.items()}
    return known | {name: {"type": kind, "required": False} for name, kind in optional.items()}


PAGES: dict[str, Any] = {
    "chat.postMessage": {"arguments": _arguments({}, {"metadata": "object"})},
    "chat.delete": {"arguments": _arguments({"channel": "string", "ts": "string"}, {})},
    "conversations.history": {"arguments": _arguments({}, {"include_all_metadata": "boolean"})},
    "conversations.replies": {"arguments": _arguments({}, {"include_all_metadata": "boolean"})},
    "files.getUploadURLExternal": {
        "consumes": [FORM],
        "arguments": _arguments(
            {"filename": "string", "length": "integer"}, {"snippet_type": "string", "alt_txt": "string"}
        ),
    },
    "files.completeUploadExternal": {
        "consumes": [FORM, JSON],
        "arguments": _arguments(
            {"files": "array"},
            {"channel_id": "string", "channels": "string", "initial_comment": "string", "thread_ts": "string"},
        ),
    },
}

NEWER_ERRORS = {
    "any method": "access_denied accesslimited ekm_access_denied enterprise_is_restricted internal_error ratelimited "
    "not_allowed_token_type org_login_required service_unavailable team_access_not_granted token_expired "
    "two_factor_setup_required",
    "chat.postMessage": "attachment_payload_limit_exceeded cannot_reply_to_message invalid_blocks team_not_found "
    "invalid_blocks_format message_limit_exceeded messages_tab_disabled msg_blocks_too_long restricted_action "
    "restricted_action_non_threadable_channel restricted_action_read_only_channel restricted_action_thread_locked "
    "restricted_action_thread_only_channel slack_connect_file_link_sharing_blocked",
    "chat.update": "block_mismatch external_channel_migrating invalid_attachments posting_to_channel_denied",
    "reactions.add": "no_access not_reactable thread_locked",
    "files.getUploadURLExternal": "file_type_not_allowed file_upload_size_restricted file_uploads_disabled "
    "file_uploads_except_images_disabled storage_limit_reached",
    "files.completeUploadExternal": "file_update_failed invalid_channel",
}
ERRORS = {error for method in SPEC["methods"].values() for error in method["errors"]} | {
    error for errors in NEWER_ERRORS.values() for error in errors.split()
}

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "number": (int, float),
    "integer": (int,),
}
_STRUCTURED = frozenset(("blocks", "attachments", "metadata"))
"""Strings of JSON in forms, and JSON itself in JSON (https://docs.slack.dev/apis/web-api/#posting_json)."""


def _text(*kinds: str, longest: int = 3000) -> dict[str, Any]:
    known = {"type": {"enum": list(kinds)}, "text": {"type": "string", "minLength": 1, "maxLength": longest}}
    return _object(known | {"verbatim": {"type": "boolean"}, "emoji": {"type": "boolean"}}, "type", "text")


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _url() -> dict[str, Any]:
    return {"type": "string", "pattern": "^https?://", "maxLength": 3000}


_IMAGE = _object(
    {"type": {"const": "image"}, "image_url": _url(), "alt_text": {"type": "string", "maxLength": 2000}},
    *("type", "image_url", "alt_text"),
)
_BUTTON = _object(
    {
        "type": {"const": "button"},
        "text": _text("plain_text", longest=75),
        "action_id": {"type": "string", "maxLength": 255},
        "url": _url(),
        "value": {"type": "string", "maxLength": 2000},
        "style": {"enum": ["primary", "danger"]},
    },
    *("type", "text"),
)
_RICH = {
    "anyOf": [
        _object({"type": {"const": "text"}, "text": {"type": "string", "minLength": 1}}, "type", "text"),
        _object({"type": {"const": "link"}, "url": {"type": "string"}, "text": {"type": "string"}}, "type", "url"),
    ]
}
_SECTION = _object({"type": {"const": "rich_text_section"}, "elements": _list(_RICH, 1000)}, "type", "elements")
_BLOCK = {
    "anyOf": [
        {
            **_object(
                {
                    "type": {"const": "section"},
                    "text": _text("mrkdwn", "plain_text"),
                    "fields": _list(_text("mrkdwn", "plain_text", longest=2000), 10),
                    "accessory": _IMAGE,
                },
                "type",
            ),
            "anyOf": [{"required": ["text"]}, {"required": ["fields"]}],
        },
        _object({"type": {"const": "actions"}, "elements": _list(_BUTTON, 25)}, "type", "elements"),
        _object(
            {"type": {"const": "context"}, "elements": _list({"anyOf": [_IMAGE, _text("mrkdwn", "plain_text")]}, 10)},
            *("type", "elements"),
        ),
        _IMAGE,
        _object({"type": {"const": "rich_text"}, "elements": _list(_SECTION, 100)}, "type", "elements"),
    ]
}
_ATTACHMENT = _object(
    {
        "fallback": {"type": "string", "minLength": 1},
        "color": {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"},
        "blocks": _list(_BLOCK, 50),
    },
    "blocks",
)
BLOCKS = jsonschema_rs.validator_for({"type": "array", "items": _BLOCK, "maxItems": 50})
"""docs.slack.dev/reference/block-kit, as far as we use it."""
ATTACHMENTS = jsonschema_rs.validator_for({"type": "array", "items": _ATTACHMENT, "maxItems": 100})


def check_method(method: str, given: Mapping[str, Any], content_type: str) -> None:
    """A method with these arguments is as described; those of a form are strings. Raises AssertionError."""
    described, page = SPEC["methods"].get(method, {}), PAGES.get(method, {})
    known = {**described.get("arguments", {}), **page.get("arguments", {})}
    assert known, f"{method} is not known"
    assert content_type in page.get("consumes", described.get("consumes")), f"{method} takes no {content_type}"
    problems = [f"{method}.{name} is not known" for name in given if name not in known]
    problems += [
        f"{method}.{name} is missing" for name, each in known.items() if each["required"] and name not in given
    ]
    if content_type == JSON:
        problems += [
            f"{method}.{name} is no {known[name]['type']}: {value!r}"
            for name, value in given.items()
            if name in known and name not in _STRUCTURED and not _is(value, known[name]["type"])
        ]
    assert not problems, problems
    for name, shape in (("blocks", BLOCKS), ("attachments", ATTACHMENTS)):
        assert not [error.message for error in shape.iter_errors(given.get(name, []))], given[name]


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
