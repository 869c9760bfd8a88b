"""Names of reactions that are in use everywhere, as emojis and back; Slack knows emojis by name only.

The names are those of Slack's emoji set (https://github.com/iamcal/emoji-data, `short_names`). One that is not here,
or is the workspace's own, is passed on as its name.
"""

from __future__ import annotations

_NAMES = {
    "+1": "👍",
    "thumbsup": "👍",
    "-1": "👎",
    "thumbsdown": "👎",
    "heart": "❤",
    "orange_heart": "🧡",
    "yellow_heart": "💛",
    "green_heart": "💚",
    "blue_heart": "💙",
    "purple_heart": "💜",
    "broken_heart": "💔",
    "fire": "🔥",
    "tada": "🎉",
    "clap": "👏",
    "pray": "🙏",
    "muscle": "💪",
    "raised_hands": "🙌",
    "wave": "👋",
    "ok_hand": "👌",
    "handshake": "🤝",
    "point_up": "☝",
    "eyes": "👀",
    "white_check_mark": "✅",
    "heavy_check_mark": "✔",
    "x": "❌",
    "warning": "⚠",
    "question": "❓",
    "exclamation": "❗",
    "heavy_exclamation_mark": "❗",
    "100": "💯",
    "rocket": "🚀",
    "star": "⭐",
    "sparkles": "✨",
    "bulb": "💡",
    "trophy": "🏆",
    "hourglass": "⌛",
    "zap": "⚡",
    "bug": "🐛",
    "coffee": "☕",
    "cake": "🍰",
    "joy": "😂",
    "grinning": "😀",
    "smile": "😄",
    "smiley": "😃",
    "grin": "😁",
    "wink": "😉",
    "blush": "😊",
    "heart_eyes": "😍",
    "star-struck": "🤩",
    "sunglasses": "😎",
    "thinking_face": "🤔",
    "neutral_face": "😐",
    "open_mouth": "😮",
    "scream": "😱",
    "cry": "😢",
    "sob": "😭",
    "rage": "😡",
    "angry": "😠",
    "skull": "💀",
    "poop": "💩",
    "hankey": "💩",
    "clown_face": "🤡",
    "ghost": "👻",
    "see_no_evil": "🙈",
}
_EMOJIS = {emoji: name for name, emoji in reversed(_NAMES.items())}
_SKIN = "::skin-tone-"
_FIRST_TONE = 0x1F3FB
"""skin-tone-2 of 2 to 6 (Fitzpatrick types 1-2 to 6)."""
_PICTURE = "\ufe0f"


def emoji_of(name: str) -> str:
    """The emoji with a name of Slack's; the name itself where it is not known."""
    bare, tone, number = name.partition(_SKIN)
    known = _NAMES.get(bare)
    if known is None:
        return name
    return known + chr(_FIRST_TONE + int(number) - 2) if tone and number in "23456" else known


def name_of(emoji: str) -> str:
    """Slack's name of an emoji, or of a name with colons."""
    bare = emoji.strip(":").replace(_PICTURE, "")
    tone = ord(bare[-1]) - _FIRST_TONE + 2 if len(bare) > 1 else 0
    if 2 <= tone <= 6 and bare[:-1] in _EMOJIS:  # noqa: PLR2004
        return f"{_EMOJIS[bare[:-1]]}{_SKIN}{tone}"
    return _EMOJIS.get(bare, bare)
