"""What an operator can choose, read once from `VERA_HUB_…` and passed on as one value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20
DATABASE_FILE = "hub.db"
# What `bases` may hold: a name, or a namespace with a name in which * and ? stand for others.
_BASES = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.*?-]+)?", re.ASCII)

_DATABASES = re.compile(r"(postgres(ql)?(\+psycopg)?|sqlite)://.+")
_STORES = re.compile(r"s3://[^/]+(/.*)?|file:///.+|memory:///?")


class Settings(BaseSettings):
    """The configuration of one hub. Without any, it is embedded: SQLite in `data_dir`, on 127.0.0.1."""

    model_config = SettingsConfigDict(env_prefix="VERA_HUB_", frozen=True, extra="ignore")

    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path("vera-hub"))
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    # Of this machine, on one database; what each is allowed of memory is shared out among them.
    processes: int = Field(default=1, ge=1, le=64)
    # postgresql://… ; the default is SQLite in data_dir.
    database_url: str | None = None
    # s3://bucket/prefix, file:///…, memory:///: where blobs above 256 KiB live. S3 keys and endpoint come
    # from the usual AWS_… variables. The default is the database.
    blob_url: str | None = None
    # How others reach this hub, when that is not http://host:port.
    public_url: str | None = None
    # Host names beside loopback and the one in public_url that requests may name.
    allowed_hosts: tuple[str, ...] = ()
    user: str | None = None
    # The largest adapter file is 64 MiB; the rest of a push is small.
    max_push_bytes: int = 68 * MIB
    # A stored pair of matrices: rank 1024 for 11008 x 11008, as for all layers of a 7B model, is 86 MiB.
    max_projection_bytes: int = 256 * MIB
    max_json_bytes: int = 1 * MIB
    # Tensor tables of the largest bases, and the outputs of an evaluation.
    max_table_bytes: int = 16 * MIB
    # Pushes and tables that are in memory at the same time; the next one waits.
    large_bodies_at_once: int = Field(default=8, ge=1)
    # Issuers of identities for CI jobs, and whose claims theirs are like ("github", "gitlab"); JSON.
    oidc_issuers: dict[str, Literal["github", "gitlab"]] = {  # pydantic copies it
        "https://token.actions.githubusercontent.com": "github",
        "https://gitlab.com": "gitlab",
    }
    # Proxies whose word about who is calling (X-Forwarded-For) is taken.
    trusted_proxies: tuple[str, ...] = ()
    # Whether it is counted how often somebody asks; by default, unless only this machine can.
    rate_limits: bool | None = None
    # Quotas of each user and each organisation.
    max_account_bytes: int | None = None
    max_account_adapters: int | None = None
    # Of whoever registers them: a base is in no namespace.
    max_account_bases: int | None = None
    # For tests: webhooks may also go to http://127.0.0.1.
    webhook_allow_loopback: bool = False
    # Another hub, whose adapters this one fetches when they are asked for and gives out from then on.
    upstream: str | None = None
    # A file with a token for that hub, for adapters that not everybody sees there. It is sent nowhere else.
    upstream_token_file: Path | None = None
    # How long what that hub has said of what moves (aliases, latest, withdrawals) is taken for true.
    upstream_fresh_s: float = Field(default=60, ge=0)
    # Base models that the Hugging Face wire passes on from another hub: names, or all of a namespace as
    # "google-bert/*"; JSON. None by default.
    bases: tuple[str, ...] = ()
    # That hub, which is asked without a token.
    bases_from: str = "https://huggingface.co"
    # How much room copies of their files may take: the ones used least make way. They count for nobody's quota.
    max_bases_bytes: int = Field(default=50 * 1024 * MIB, ge=0)
    # A file with the secret that opens /metrics, which else is for admins.
    metrics_token_file: Path | None = None
    # A quota for the embedded database; beyond it, writes are refused with STORAGE_FULL.
    max_database_bytes: int | None = None

    @field_validator("database_url")
    @classmethod
    def _names_a_database(cls, url: str | None) -> str | None:
        if url is not None and not _DATABASES.fullmatch(url):  # it is not repeated: there may be a password in it
            raise ValueError(
                "that names no database: write postgresql://user:password@host/name, or leave it out, and it is SQLite in the "
                "data folder"
            )
        return url

    @field_validator("blob_url")
    @classmethod
    def _names_a_store(cls, url: str | None) -> str | None:
        if url is not None and not _STORES.fullmatch(url):
            raise ValueError(
                f"{url!r} names no object store: write s3://bucket/prefix, or file:///folder for one of this machine, or leave "
                "it out, and the files are in the database"
            )
        return url

    @field_validator("oidc_issuers")
    @classmethod
    def _keys_come_over_https(cls, issuers: dict[str, str]) -> dict[str, str]:
        for issuer in issuers:
            parts = urlsplit(issuer)
            if parts.scheme != "https" and parts.hostname != "127.0.0.1":
                raise ValueError(f"{issuer} is not https: keys that come in the open prove nothing")
        return issuers

    @field_validator("bases")
    @classmethod
    def _name_their_namespaces(cls, bases: tuple[str, ...]) -> tuple[str, ...]:
        for each in bases:
            if not _BASES.fullmatch(each):
                raise ValueError(
                    f"{each!r} names no base models: write google-bert/bert-base-uncased, google-bert/* or gpt2. "
                    "A namespace is spelled out, so that it cannot be one of this hub's own by chance"
                )
        return bases

    @field_validator("upstream", "bases_from")
    @classmethod
    def _is_an_origin(cls, upstream: str | None) -> str | None:
        if upstream is None:
            return None
        parts = urlsplit(upstream)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost"))
        if not is_safe or not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or parts.query:
            raise ValueError(
                f"{upstream} is no hub to fetch from: name it as https://hub.example.org, without a path "
                "(http only for one on this machine)"
            )
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def is_embedded(self) -> bool:
        """True when the database is a file that this hub alone may open."""
        return self.database_url is None

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / DATABASE_FILE}"

    @property
    def has_rate_limits(self) -> bool:
        if self.rate_limits is not None:
            return self.rate_limits
        return self.public_url is not None or self.host not in ("127.0.0.1", "localhost", "::1")

    @property
    def bases_folder(self) -> Path:
        """Where copies of base models are kept, and what is on its way; it may be removed while the hub is not running."""
        return self.data_dir / "bases"

    @property
    def worker_token_file(self) -> Path:
        """Where the hub leaves the token for the workers of its own machine."""
        return self.data_dir / "worker-token"

    @property
    def bootstrap_token_file(self) -> Path:
        """Where the hub leaves the code that makes the first admin, until there is one."""
        return self.data_dir / "bootstrap-token"

    @property
    def host_names(self) -> frozenset[str]:
        """The names a request may be addressed to, beside loopback's."""
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return frozenset(name for name in (public, *self.allowed_hosts) if name)
