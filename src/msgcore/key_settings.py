"""Settings about the secrets of an installation: what encrypts credentials, and what signs logins."""

from __future__ import annotations

from pydantic import BaseModel

from msgcore.setting_kinds import DecryptionKeys, EncryptionKey, JwtSecret, KeyCommand, setting


class KeySettings(BaseModel):
    """The part of `config.Settings` about secrets."""

    encryption_key: EncryptionKey = setting(
        None,
        "64 hex digits that encrypt credentials; unset: made and kept in the data directory",
        "MSGCORE_ENCRYPTION_KEY",
        "ENCRYPTION_KEY",
    )
    encryption_key_command: KeyCommand = setting(
        None,
        "Run at the start, without a shell: prints that key instead, and on further lines keys that only decrypt",
        "MSGCORE_ENCRYPTION_KEY_COMMAND",
    )
    decryption_keys: DecryptionKeys = setting(None, "Further keys that only decrypt", "MSGCORE_DECRYPTION_KEYS")
    jwt_secret: JwtSecret = setting(
        None,
        "At least 32 characters that sign logins; unset: made and kept in the data directory",
        "MSGCORE_JWT_SECRET",
        "JWT_SECRET",
    )
