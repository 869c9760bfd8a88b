"""Every setting of MsgCore: its variable, default and meaning.

`load_settings` reads them from the environment; `describe` gives the rows of the table that
`msgcore config` prints and `docs/configuration.md` holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import platformdirs
from pydantic import ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from msgcore.caller_settings import CallerSettings
from msgcore.core.errors import StartupError
from msgcore.key_settings import KeySettings
from msgcore.setting_kinds import (
    GENERATE_SECRET,
    PROGRAMS,
    Allowed,
    BlobUrl,
    DatabaseUrl,
    DataDir,
    HostName,
    HttpUrl,
    MediaTypes,
    MetricsToken,
    Networks,
    OptionalFile,
    OptionalHttpUrl,
    OptionalPort,
    Origins,
    RedisPrefix,
    RedisUrl,
    S3Key,
    S3Region,
)
from msgcore.setting_kinds import setting as _setting

MASK = "********"

BASE_URL_VARIABLE = re.compile(r"MSGCORE_([A-Z0-9_]+)_BASE_URL")

_PAIRS = (
    ("tls_cert", "tls_key"),
    ("s3_access_key_id", "s3_secret_access_key"),
    ("oidc_issuer", "oidc_audience"),
)


def _local_url(values: dict[str, Any]) -> str:
    scheme = "http" if values.get("tls_cert") is None else "https"
    return f"{scheme}://localhost:{values.get('port', 7890)}"


class Settings(KeySettings, CallerSettings):
    """All settings. Immutable; build it by field names, or from variables with `load_settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    env: Literal["development", "production", "test"] = _setting(
        "development", "In production, missing secrets are an error instead of being made up", "MSGCORE_ENV"
    )
    host: HostName = _setting("127.0.0.1", "Address to listen on", "MSGCORE_HOST")
    port: int = _setting(7890, "Port to listen on", "MSGCORE_PORT", "PORT", ge=1, le=65535)
    tls_cert: OptionalFile = _setting(
        None, "Certificate chain (PEM) to serve https with; unset: http, for a proxy in front", "MSGCORE_TLS_CERT"
    )
    tls_key: OptionalFile = _setting(None, "Private key (PEM) of that certificate", "MSGCORE_TLS_KEY")
    api_url: HttpUrl = Field(
        default_factory=_local_url,
        description="Public URL of this server, used in webhook addresses",
        json_schema_extra={"variables": ["MSGCORE_API_URL"], "default_text": "http(s)://localhost:<port>"},
    )
    frontend_url: OptionalHttpUrl = _setting(
        None,
        "Where the dashboard is, for links in invitations; unset: MSGCORE_API_URL",
        "MSGCORE_FRONTEND_URL",
        "FRONTEND_URL",
    )
    docs: Literal["on", "off"] = _setting("on", "Whether /docs describes the API", "MSGCORE_DOCS")
    data_dir: DataDir = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("msgcore")),
        description="Where secrets and the SQLite file live",
        json_schema_extra={"variables": ["MSGCORE_DATA_DIR"], "default_text": "~/.local/share/msgcore"},
    )
    database_url: DatabaseUrl = _setting(
        None,
        "postgresql://... or sqlite:///...; unset: a SQLite file in the data directory",
        "MSGCORE_DATABASE_URL",
        "DATABASE_URL",
    )
    redis_url: RedisUrl = _setting(
        None,
        "Redis or Valkey that lets any number of processes share the work; unset: one process dispatches",
        "MSGCORE_REDIS_URL",
        "REDIS_URL",
    )
    redis_prefix: RedisPrefix = _setting(
        "msgcore",
        "How keys in Redis begin; installations that share a server need different ones",
        "MSGCORE_REDIS_PREFIX",
    )
    redis_shards: int = _setting(
        1,
        "Parts of the schedule, spread over the nodes of a Redis Cluster; the same in every process",
        "MSGCORE_REDIS_SHARDS",
        ge=1,
        le=256,
    )
    cors_origins: Origins = _setting(
        (), "Origins that browsers may call from, comma-separated", "MSGCORE_CORS_ORIGINS", "CORS_ORIGINS"
    )
    rate_limit_ttl: int = _setting(
        60, "Window of the sign-in rate limit, seconds", "MSGCORE_RATE_LIMIT_TTL", "RATE_LIMIT_TTL", ge=1
    )
    rate_limit_max: int = _setting(
        100,
        "Failed sign-ins of an address in that window; then it waits, longer each time",
        "MSGCORE_RATE_LIMIT_MAX",
        "RATE_LIMIT_MAX",
        ge=1,
    )
    egress_allow: Networks = _setting(
        (), "Private networks (CIDR, comma-separated) that user-given hosts may resolve to", "MSGCORE_EGRESS_ALLOW"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Least severe line", "MSGCORE_LOG_LEVEL")
    log_format: Literal["auto", "console", "json"] = _setting(
        "auto", "auto: console on a terminal, json elsewhere", "MSGCORE_LOG_FORMAT"
    )
    max_body_bytes: int = _setting(16 * 1024 * 1024, "Largest request body, bytes", "MSGCORE_MAX_BODY_BYTES", ge=1024)
    max_spool_bytes: int = _setting(
        256 * 1024 * 1024,
        "Received requests kept on the disk while the database is away, bytes; beyond, platforms get 503",
        "MSGCORE_MAX_SPOOL_BYTES",
        ge=0,
    )
    event_days: int = _setting(30, "How long events can be read again, days", "MSGCORE_EVENT_DAYS", ge=1, le=3650)
    audit_days: int = _setting(365, "How long the audit log is kept, days", "MSGCORE_AUDIT_DAYS", ge=1, le=36_500)
    usage_days: int = _setting(
        92, "How long it is kept what API keys were used for, days", "MSGCORE_USAGE_DAYS", ge=1, le=3650
    )
    max_attachment_bytes: int = _setting(
        25 * 1024 * 1024,
        "Largest attachment or sum of a mail's, bytes",
        "MSGCORE_MAX_ATTACHMENT_BYTES",
        ge=1024,
    )
    blob_url: BlobUrl = _setting(
        None, "Where files of received messages are kept; unset: blobs in the data directory", "MSGCORE_BLOB_URL"
    )
    s3_endpoint: OptionalHttpUrl = _setting(None, "The S3-compatible server; unset: AWS", "MSGCORE_S3_ENDPOINT")
    s3_region: S3Region = _setting("us-east-1", "Region of the bucket", "MSGCORE_S3_REGION")
    s3_access_key_id: S3Key = _setting(
        None, "Key of the bucket; unset: AWS's own variables, or the machine's role", "MSGCORE_S3_ACCESS_KEY_ID"
    )
    s3_secret_access_key: S3Key = _setting(None, "The secret of that key", "MSGCORE_S3_SECRET_ACCESS_KEY")
    max_inbound_attachment_bytes: int = _setting(
        25 * 1024 * 1024,
        "Largest file of a received message, decompressed, bytes",
        "MSGCORE_MAX_INBOUND_ATTACHMENT_BYTES",
        ge=0,
    )
    attachment_types: MediaTypes = _setting(
        ("*/*",), "Which files of received messages are kept", "MSGCORE_ATTACHMENT_TYPES"
    )
    blocked_attachment_types: MediaTypes = _setting(
        PROGRAMS, "Which of these are not, by what they say or what they hold", "MSGCORE_BLOCKED_ATTACHMENT_TYPES"
    )
    attachment_days: int = _setting(
        30, "How long files of received messages are kept, days", "MSGCORE_ATTACHMENT_DAYS", ge=1, le=3650
    )
    attachment_url_seconds: int = _setting(
        900, "How long the address of a file is valid, seconds", "MSGCORE_ATTACHMENT_URL_SECONDS", ge=10, le=604_800
    )
    queue_quota: int = _setting(
        1_000_000,
        "Deliveries of a project that may be waiting or scheduled; more are answered with 429. 0: any number",
        "MSGCORE_QUEUE_QUOTA",
        ge=0,
    )
    concurrency: int = _setting(
        128, "Deliveries sent at the same time by one worker", "MSGCORE_CONCURRENCY", ge=1, le=10_000
    )
    lease_seconds: float = _setting(30.0, "How long a worker holds a delivery, seconds", "MSGCORE_LEASE_SECONDS", gt=0)
    send_timeout_seconds: float = _setting(
        60.0, "Longest time one attempt may take, seconds", "MSGCORE_SEND_TIMEOUT_SECONDS", gt=0
    )
    reconcile_seconds: float = _setting(
        2.0,
        "How often the ledger is searched for deliveries that the scheduler does not know, seconds",
        "MSGCORE_RECONCILE_SECONDS",
        gt=0,
    )
    shutdown_seconds: float = _setting(
        20.0, "How long a stop waits for what is in flight, seconds", "MSGCORE_SHUTDOWN_SECONDS", ge=0
    )
    sqlite_synchronous: Literal["normal", "full"] = _setting(
        "full", "full: an answered message survives a power cut; normal: only a crash", "MSGCORE_SQLITE_SYNCHRONOUS"
    )
    database_pool: int = _setting(10, "PostgreSQL connections per process", "MSGCORE_DATABASE_POOL", ge=2, le=200)
    metrics_port: OptionalPort = _setting(
        None,
        "Port that serves /metrics and health by itself, also for a worker; unset: /metrics is on the API's port",
        "MSGCORE_METRICS_PORT",
    )
    metrics_host: HostName = _setting("127.0.0.1", "Address that the metrics port listens on", "MSGCORE_METRICS_HOST")
    metrics_token: MetricsToken = _setting(
        None,
        "Bearer token that /metrics asks for; without one it answers on the metrics port only",
        "MSGCORE_METRICS_TOKEN",
    )
    platform_base_urls: dict[str, HttpUrl] = Field(
        default_factory=dict,
        description="Where a platform's API is, for a proxy or a test server; keys are platform names",
        json_schema_extra={"variables": ["MSGCORE_<PLATFORM>_BASE_URL"], "default_text": "the platform's own"},
    )

    @property
    def resolved_database_url(self) -> str:
        """The URL that was set, or that of the SQLite file in the data directory. May hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'msgcore.db'}"


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of the settings table, as text; secrets are masked."""

    variable: str
    aliases: tuple[str, ...]
    value: str
    default: str
    meaning: str
    allowed: str
    source: str


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that these variables make; an empty variable counts as unset.

    Raises StartupError with one line that names the variable as it was set, and what is allowed.
    """
    sources = _sources(environ)
    values: dict[str, Any] = {name: environ[variable] for name, variable in sources.items()}
    base_urls = {platform: environ[variable] for platform, variable in _base_url_variables(environ)}
    try:
        settings = Settings(**values, platform_base_urls=base_urls)
    except ValidationError as error:
        raise StartupError(_explain(error, sources, environ)) from None
    if settings.env == "production":
        _require_secrets(settings)
    for one, other in _PAIRS:
        if (getattr(settings, one) is None) != (getattr(settings, other) is None):
            raise StartupError(f"MSGCORE_{one.upper()} and MSGCORE_{other.upper()} go together; set both or none")
    if settings.encryption_key is not None and settings.encryption_key_command is not None:
        raise StartupError("MSGCORE_ENCRYPTION_KEY and MSGCORE_ENCRYPTION_KEY_COMMAND are both set; set one of them")
    if settings.metrics_port == settings.port:
        raise StartupError(f"MSGCORE_METRICS_PORT is {settings.port}, as is MSGCORE_PORT; use two ports")
    return settings


def known_variables() -> frozenset[str]:
    """Every variable that sets something, the original's names included, apart from base URLs."""
    return frozenset(variable for field in Settings.model_fields.values() for variable in _variables(field))


def describe(settings: Settings, environ: Mapping[str, str]) -> list[SettingRow]:
    """The settings table: one row each, in the order of the class, inherited ones last, with what `environ` set."""
    sources = _sources(environ)
    inherited = {*KeySettings.model_fields, *CallerSettings.model_fields}
    fields = sorted(Settings.model_fields.items(), key=lambda item: item[0] in inherited)
    return [_row(name, field, settings, sources) for name, field in fields]


def _row(name: str, field: FieldInfo, settings: Settings, sources: Mapping[str, str]) -> SettingRow:
    variable, *aliases = _variables(field)
    value = getattr(settings, name)
    return SettingRow(
        variable=variable,
        aliases=tuple(aliases),
        value=_show(value),
        default=_extra(field).get("default_text") or _show(field.default),
        meaning=field.description or "",
        allowed=_allowed(field),
        source=sources.get(name, "environment" if name == "platform_base_urls" and value else "default"),
    )


def _show(value: Any) -> str:
    match value:
        case None | () | {}:
            return ""
        case SecretStr():
            return MASK
        case tuple():
            return ",".join(cast("tuple[str, ...]", value))
        case dict():
            return ",".join(f"{key}={item}" for key, item in cast("dict[str, str]", value).items())
        case _:
            return str(value)


def _extra(field: FieldInfo) -> dict[str, Any]:
    return cast("dict[str, Any]", field.json_schema_extra)


def _variables(field: FieldInfo) -> list[str]:
    return _extra(field)["variables"]


def _sources(environ: Mapping[str, str]) -> dict[str, str]:
    """Which variable sets which field."""
    sources: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        used = next((variable for variable in _variables(field) if environ.get(variable, "").strip()), None)
        if used is not None:
            sources[name] = used
    return sources


def _base_url_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Platform name and variable of each `MSGCORE_<PLATFORM>_BASE_URL` that is set."""
    for variable in sorted(environ):
        match = BASE_URL_VARIABLE.fullmatch(variable)
        if match and environ[variable].strip():
            yield match[1].lower().replace("_", "-"), variable


def _allowed(field: FieldInfo) -> str:
    """In words, which values a field takes."""
    for item in field.metadata:
        if isinstance(item, Allowed):
            return item.text
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(get_args(field.annotation))
    if field.annotation is int:
        return _number_range("a whole number", field)
    if field.annotation is float:
        return _number_range("a number", field)
    return "a URL like https://api.example.com"


def _number_range(noun: str, field: FieldInfo) -> str:
    bounds = {
        name: getattr(item, name) for item in field.metadata for name in ("gt", "ge", "le") if hasattr(item, name)
    }
    if "gt" in bounds:
        return f"{noun} above {bounds['gt']:g}"
    if "le" in bounds:
        return f"{noun} from {bounds['ge']} to {bounds['le']}"
    return f"{noun}, {bounds['ge']} or more"


def _explain(error: ValidationError, sources: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """One line for the first wrong setting, with its value unless that may be a secret."""
    name, *rest = map(str, error.errors(include_input=False, include_url=False, include_context=False)[0]["loc"])
    field = Settings.model_fields[name]
    variable = dict(_base_url_variables(environ))[rest[0]] if name == "platform_base_urls" else sources[name]
    secret = SecretStr in get_args(field.annotation) or "@" in environ[variable]
    shown = "has a value that is not allowed" if secret else f"is {environ[variable]!r}, which is not allowed"
    return f"{variable} {shown}; use {_allowed(field)}"


def _require_secrets(settings: Settings) -> None:
    needed = ("jwt_secret",) if settings.encryption_key_command is not None else ("encryption_key", "jwt_secret")
    for name in needed:
        if getattr(settings, name) is None:
            variable = _variables(Settings.model_fields[name])[0]
            raise StartupError(
                f"{variable} must be set when MSGCORE_ENV=production; generate a value with: {GENERATE_SECRET}"
            )
