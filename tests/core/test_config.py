"""Settings: where they come from, what they refuse, and how the table shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from msgcore.config import MASK, Settings, describe, known_variables, load_settings
from msgcore.core.errors import StartupError
from msgcore.unknown_variables import unknown_variables

KEY = "0a" * 32
SECRET = "s" * 32

REFUSED = [
    ("MSGCORE_PORT", "abc", "is 'abc'", "a whole number from 1 to 65535"),
    ("PORT", "70000", "is '70000'", "a whole number from 1 to 65535"),
    ("MSGCORE_PORT", "tcp://10.0.0.1:7890", "is 'tcp://", "a whole number"),
    ("MSGCORE_ENV", "prod", "is 'prod'", "one of development, production, test"),
    ("MSGCORE_HOST", "a b", "is 'a b'", "127.0.0.1"),
    ("MSGCORE_API_URL", "gateway.example.com", "is 'gateway", "https://gateway.example.com"),
    ("MSGCORE_API_URL", "https://gateway.example.com:99999", "99999", "https://gateway.example.com"),
    ("MSGCORE_API_URL", "https://gateway.example.com/?x=1", "x=1", "https://gateway.example.com"),
    ("DATABASE_URL", "mysql://u:pa55@h/db", "is not allowed", "postgresql://"),
    ("REDIS_URL", "http://cache", "is not allowed", "redis://"),
    ("ENCRYPTION_KEY", KEY[:-1], "is not allowed", "64 hex digits"),
    ("ENCRYPTION_KEY", "zz" * 32, "is not allowed", "openssl rand -hex 32"),
    ("JWT_SECRET", SECRET[:-1], "is not allowed", "at least 32 characters"),
    ("CORS_ORIGINS", "https://a.example.com/path", "path", "origins like"),
    ("MSGCORE_METRICS_PORT", "0", "is '0'", "a whole number from 1 to 65535"),
    ("MSGCORE_METRICS_PORT", "7890", "is 7890", "use two ports"),
    ("MSGCORE_METRICS_TOKEN", "short", "is not allowed", "at least 16 printable"),
    ("MSGCORE_BLOB_URL", "ftp://files/x", "is 'ftp://", "s3://bucket/prefix"),
    ("MSGCORE_BLOB_URL", "s3:///x", "is 's3:///x'", "file:///path"),
    ("MSGCORE_S3_ENDPOINT", "storage", "is 'storage'", "https://storage.example.com"),
    ("MSGCORE_S3_REGION", "a b", "is 'a b'", "eu-central-1"),
    ("MSGCORE_S3_ACCESS_KEY_ID", "key", "go together", "set both or none"),
    ("MSGCORE_TLS_CERT", "chain.pem", "go together", "set both or none"),
    ("MSGCORE_DOCS", "maybe", "is 'maybe'", "one of on, off"),
    ("MSGCORE_ATTACHMENT_TYPES", "image", "is 'image'", "image/*"),
    ("MSGCORE_ATTACHMENT_URL_SECONDS", "5", "is '5'", "from 10 to 604800"),
    ("MSGCORE_EGRESS_ALLOW", "10.0.0.0/8,intranet", "intranet", "10.0.0.0/8"),
    ("RATE_LIMIT_MAX", "0", "is '0'", "a whole number, 1 or more"),
    ("MSGCORE_LEASE_SECONDS", "0", "is '0'", "a number above 0"),
    ("MSGCORE_LEASE_SECONDS", "inf", "is 'inf'", "a number above 0"),
    ("MSGCORE_SHUTDOWN_SECONDS", "-1", "is '-1'", "a number, 0 or more"),
    ("MSGCORE_WHATSAPP_EVO_BASE_URL", "ftp://evo", "is 'ftp://evo'", "https://api.example.com"),
]


@pytest.mark.parametrize(("variable", "value", "shown", "allowed"), REFUSED)
def test_a_bad_value_is_one_line_with_the_variable_as_it_was_set(
    variable: str, value: str, shown: str, allowed: str
) -> None:
    with pytest.raises(StartupError) as caught:
        load_settings({variable: value})
    message = str(caught.value)
    assert message.startswith(f"{variable} ")
    assert shown in message
    assert allowed in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JWT_SECRET", "tooshort-hunter2"),
        ("MSGCORE_ENCRYPTION_KEY", "hunter2"),
        ("MSGCORE_S3_SECRET_ACCESS_KEY", "hunter2 hunter2"),
        ("DATABASE_URL", "mysql://root:hunter2@db/x"),
        ("MSGCORE_API_URL", "https://me:hunter2@gateway.example.com"),
    ],
)
def test_a_refused_secret_is_not_repeated(variable: str, value: str) -> None:
    with pytest.raises(StartupError) as caught:
        load_settings({variable: value})
    assert "hunter2" not in str(caught.value)


def test_defaults_without_any_variable() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.api_url) == ("127.0.0.1", 7890, "http://localhost:7890")
    assert settings == Settings()


def test_own_name_wins_over_the_originals_and_empty_counts_as_unset() -> None:
    assert load_settings({"PORT": "1000", "MSGCORE_PORT": "2000"}).port == 2000
    assert load_settings({"PORT": "1000", "MSGCORE_PORT": ""}).port == 1000
    assert load_settings({"PORT": "  ", "MSGCORE_PORT": ""}).port == 7890


@pytest.mark.parametrize(
    ("alias", "value", "field"),
    [
        ("PORT", "8000", "port"),
        ("DATABASE_URL", "postgresql://u:p@h/db?schema=public", "database_url"),
        ("REDIS_URL", "redis://:p@h:6379", "redis_url"),
        ("ENCRYPTION_KEY", KEY, "encryption_key"),
        ("JWT_SECRET", SECRET, "jwt_secret"),
        ("CORS_ORIGINS", "https://a.example.com", "cors_origins"),
        ("MSGCORE_API_URL", "https://gateway.example.com", "api_url"),
        ("RATE_LIMIT_TTL", "30", "rate_limit_ttl"),
        ("RATE_LIMIT_MAX", "7", "rate_limit_max"),
    ],
)
def test_the_originals_names_work(alias: str, value: str, field: str) -> None:
    assert getattr(load_settings({alias: value}), field) != getattr(Settings(), field)


def test_lists_are_split_at_commas() -> None:
    settings = load_settings({"CORS_ORIGINS": "https://a.example.com/, *,", "MSGCORE_EGRESS_ALLOW": "10.1.2.3/8, ::1"})
    assert settings.cors_origins == ("https://a.example.com", "*")
    assert settings.egress_allow == ("10.0.0.0/8", "::1/128")


def test_base_urls_are_collected_by_platform_name() -> None:
    settings = load_settings(
        {
            "MSGCORE_WHATSAPP_EVO_BASE_URL": "http://evo:8080/",
            "MSGCORE_SLACK_BASE_URL": "https://slack.example.com/api",
            "MSGCORE_TELEGRAM_BASE_URL": "",
            "MSGCORE_API_URL": "https://gateway.example.com",
        }
    )
    assert settings.platform_base_urls == {
        "whatsapp-evo": "http://evo:8080",
        "slack": "https://slack.example.com/api",
    }
    assert settings.api_url == "https://gateway.example.com"


def test_the_api_url_follows_the_port() -> None:
    assert load_settings({"PORT": "8000"}).api_url == "http://localhost:8000"


def test_the_database_is_a_file_in_the_data_directory_unless_set(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).resolved_database_url == f"sqlite:///{tmp_path}/msgcore.db"
    assert load_settings({"DATABASE_URL": "postgresql://h/db"}).resolved_database_url == "postgresql://h/db"


def test_the_data_directory_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings({"MSGCORE_DATA_DIR": "~/gateway"}).data_dir == tmp_path / "gateway"


@pytest.mark.parametrize("missing", ["MSGCORE_ENCRYPTION_KEY", "MSGCORE_JWT_SECRET"])
def test_production_asks_for_secrets_and_says_how_to_make_them(missing: str) -> None:
    environ = {"MSGCORE_ENV": "production", "MSGCORE_ENCRYPTION_KEY": KEY, "MSGCORE_JWT_SECRET": SECRET}
    assert load_settings(environ).env == "production"
    del environ[missing]
    with pytest.raises(StartupError, match=f"{missing} must be set .*openssl rand -hex 32"):
        load_settings(environ)


def test_an_unknown_variable_gets_the_nearest_name() -> None:
    warnings = unknown_variables(
        {
            "MSGCORE_PROT": "1",
            "MSGCORE_COMPLETELY_DIFFERENT": "1",
            "MSGCORE_PORT": "1",
            "MSGCORE_API_KEY": "for the client",
            "MSGCORE_EMAIL_BASE_URL": "http://x",
            "PATH": "/bin",
        }
    )
    assert warnings == [
        "MSGCORE_COMPLETELY_DIFFERENT is not a setting and is ignored; `msgcore config` lists all settings",
        "MSGCORE_PROT is not a setting and is ignored; did you mean MSGCORE_PORT?",
    ]


def test_settings_cannot_change_and_have_no_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


def test_the_table_shows_sources_and_masks_secrets() -> None:
    environ = {"PORT": "8000", "JWT_SECRET": SECRET, "DATABASE_URL": "postgresql://u:hunter2@h/db"}
    rows = {row.variable: row for row in describe(load_settings(environ), environ)}
    assert (rows["MSGCORE_PORT"].value, rows["MSGCORE_PORT"].source) == ("8000", "PORT")
    assert (rows["MSGCORE_HOST"].value, rows["MSGCORE_HOST"].source) == ("127.0.0.1", "default")
    assert rows["MSGCORE_JWT_SECRET"].value == rows["MSGCORE_DATABASE_URL"].value == MASK
    assert rows["MSGCORE_ENCRYPTION_KEY"].value == ""
    assert all(row.meaning and row.allowed for row in rows.values())
    assert known_variables() >= rows.keys() | {"PORT", "DATABASE_URL"}


def test_secrets_are_not_in_the_repr() -> None:
    settings = load_settings({"JWT_SECRET": SECRET, "DATABASE_URL": "postgresql://u:hunter2@h/db"})
    assert SECRET not in repr(settings)
    assert "hunter2" not in f"{settings!r} {settings}"
