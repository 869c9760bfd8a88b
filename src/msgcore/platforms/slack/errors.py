"""What the Web API's errors mean: answers with `ok: false` and an `error`, mostly under HTTP status 200.

Source: the "Errors" of each method's page under https://docs.slack.dev/reference/methods, and
https://docs.slack.dev/apis/web-api/rate-limits for 429.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from msgcore.core.errors import Scope
from msgcore.outbound.transport import Response
from msgcore.platforms.documents import find, find_text
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

_PAGES = "https://docs.slack.dev/reference/methods"
_DONE = frozenset(("already_reacted", "no_reaction"))
"""What was asked for is so already."""
_HALFWAY = frozenset(("fatal_error", "internal_error"))
"""Documented with: "some aspect of the operation" may have succeeded."""


def _rules(code: str, ending: Ending, message: str, *errors: str, scope: Scope = Scope.ACCOUNT) -> Iterator[ErrorRule]:
    for error in errors:
        example = {"ok": False, "error": error}
        yield ErrorRule(code, ending, message, platform_code=error, scope=scope, example=example, source=_PAGES)


ERRORS = ErrorTable(
    (
        *_rules(
            "credentials_refused",
            Ending.AUTHENTICATION,
            "Slack does not take the bot token: install the app again, and give its Bot User OAuth Token",
            *("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"),
            *("not_allowed_token_type", "team_access_not_granted", "two_factor_setup_required"),
        ),
        *_rules(
            "missing_scope",
            Ending.PERMANENT,
            "The app lacks a permission: add the scope under OAuth & Permissions, and install it again",
            *("missing_scope", "no_permission"),
        ),
        *_rules(
            "rate_limited",
            Ending.THROTTLED,
            "Slack asks to go slower",
            *("ratelimited", "rate_limited"),
        ),
        *_rules(
            "recipient_unknown",
            Ending.PERMANENT,
            "There is no such conversation or person, or the app cannot see it",
            *("channel_not_found", "invalid_channel", "user_not_found", "user_not_visible", "team_not_found"),
            *("invalid_user_combination", "method_not_supported_for_channel_type"),
        ),
        *_rules(
            "recipient_disabled",
            Ending.PERMANENT,
            "The person's account is deactivated, or the app takes no messages (App Home, Messages Tab)",
            *("user_disabled", "messages_tab_disabled"),
        ),
        *_rules(
            "not_a_member",
            Ending.PERMANENT,
            "The app is not in this channel: invite it there, or give it the scope chat:write.public",
            "not_in_channel",
        ),
        *_rules(
            "recipient_archived",
            Ending.PERMANENT,
            "The channel is archived",
            *("is_archived", "is_inactive"),
        ),
        *_rules(
            "not_allowed",
            Ending.PERMANENT,
            "The workspace does not let the app do this here",
            *("restricted_action", "restricted_action_read_only_channel", "restricted_action_thread_only_channel"),
            *("restricted_action_non_threadable_channel", "restricted_action_thread_locked", "thread_locked"),
            *("access_denied", "accesslimited", "ekm_access_denied", "enterprise_is_restricted"),
            *("posting_to_channel_denied", "no_access", "slack_connect_file_link_sharing_blocked"),
        ),
        *_rules(
            "message_too_long",
            Ending.PERMANENT,
            "The message has more than Slack takes",
            *("msg_too_long", "msg_blocks_too_long", "too_many_attachments", "attachment_payload_limit_exceeded"),
        ),
        *_rules("message_empty", Ending.PERMANENT, "The message has no text", "no_text"),
        *_rules(
            "message_invalid",
            Ending.PERMANENT,
            "Slack cannot show the buttons or embeds; images must be where Slack can fetch them",
            *("invalid_blocks", "invalid_blocks_format", "invalid_attachments", "block_mismatch"),
        ),
        *_rules(
            "reply_unknown",
            Ending.PERMANENT,
            "The message to be answered takes no replies",
            "cannot_reply_to_message",
        ),
        *_rules(
            "message_unknown",
            Ending.PERMANENT,
            "There is no such message in this conversation",
            *("message_not_found", "bad_timestamp"),
        ),
        *_rules(
            "message_fixed",
            Ending.PERMANENT,
            "The message is not the app's own, or may not be changed any more",
            *(
                "cant_update_message",
                "edit_window_closed",
                "cant_delete_message",
                "compliance_exports_prevent_deletion",
            ),
        ),
        *_rules(
            "reaction_refused",
            Ending.PERMANENT,
            "Slack does not know the emoji by this name, or the message has as many as it may",
            *("invalid_name", "too_many_emoji", "too_many_reactions", "not_reactable"),
        ),
        *_rules(
            "attachment_refused",
            Ending.PERMANENT,
            "The workspace does not take this file",
            *("file_uploads_disabled", "file_uploads_except_images_disabled", "file_type_not_allowed"),
        ),
        *_rules(
            "attachment_too_large",
            Ending.PERMANENT,
            "The file is larger than the workspace allows",
            "file_upload_size_restricted",
        ),
        *_rules(
            "storage_full",
            Ending.PERMANENT,
            "The workspace has no room for files left",
            "storage_limit_reached",
        ),
        *_rules(
            "attachment_lost",
            Ending.TEMPORARY,
            "Slack lost the file before it was shared",
            *("file_not_found", "file_update_failed"),
            scope=Scope.DELIVERY,
        ),
        *_rules(
            "recipient_moving",
            Ending.TEMPORARY,
            "The channel is being moved to another workspace",
            "external_channel_migrating",
            scope=Scope.LANE,
        ),
        *_rules(
            "platform_unavailable",
            Ending.TEMPORARY,
            "Slack has a problem of its own",
            *("fatal_error", "internal_error", "service_unavailable", "request_timeout"),
            *("org_login_required", "team_added_to_org", "message_limit_exceeded"),
        ),
    )
)

OPENING_ERRORS = ErrorTable(
    (
        *_rules(
            "credentials_refused",
            Ending.AUTHENTICATION,
            "Slack does not take the app-level token: make one under Basic Information, App-Level Tokens",
            *("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"),
            *("not_allowed_token_type", "user_removed_from_team", "team_disabled"),
        ),
        *_rules(
            "missing_scope",
            Ending.PERMANENT,
            "The app-level token lacks the scope connections:write",
            *("missing_scope", "no_permission"),
        ),
        *ERRORS.rules,
    )
)
"""What those of apps.connections.open mean, which is called with another token."""


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None for one with `ok`, and where there was nothing left to do."""
    error = find_text(data, "error")
    if data.get("ok") is True or error in _DONE:
        return None
    if error is None:
        # Slack's own answers say what is wrong: this is something in between.
        return Problem(answer.status if answer.status >= 400 else 502)  # noqa: PLR2004
    status = max(answer.status, 500) if error in _HALFWAY else answer.status
    return Problem(status, error, _said(error, data))


def _said(error: str, data: Mapping[str, Any]) -> str:
    """The error with what else Slack says of it: the scope that is needed, and what is wrong with which block."""
    said = find(data, "response_metadata", "messages")
    more = [str(each) for each in cast("list[Any]", said)] if isinstance(said, list) else []
    needed = [f"needs {data['needed']}"] if data.get("needed") else []
    return "; ".join((error, *needed, *more))
