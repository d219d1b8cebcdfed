"""The keys of the HTTP API: who may do what. Of a secret only its digest is stored."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Engine, Row, select, update

from stream_app.errors import NotFound
from stream_app.serving_ports import ApiKey
from stream_app.storage.serving_tables import api_keys

#: What every key begins with, so that scanners of repositories can be told to look for it.
_PREFIX: Final = "sak_"
_ID_BYTES: Final = 8
_ID: Final = re.compile(r"[0-9a-f]{16}")
_SECRET_BYTES: Final = 32
#: Compared with where there is no key of that id: the work is the same, and nothing has this digest.
_NOBODY: Final = "0" * 64


class SqlApiKeys:
    """`serving_ports.ApiKeys` over the table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, scopes: Collection[str], *, now: float, expires_at: float | None) -> tuple[str, ApiKey]:
        """Return the key as its owner has to send it, told this once, and what is stored of it."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        made = ApiKey(
            id=secrets.token_hex(_ID_BYTES),
            name=name,
            scopes=frozenset(scopes),
            created_at=now,
            expires_at=expires_at,
            revoked_at=None,
        )
        row = api_keys.insert().values(
            id=made.id,
            secret_sha256=_digest(secret),
            name=name,
            scopes=" ".join(sorted(scopes)),
            created_at=now,
            expires_at=expires_at,
        )
        with self._engine.begin() as connection:
            connection.execute(row)
        return f"{_PREFIX}{made.id}.{secret}", made

    def verify(self, key: str, *, now: float) -> ApiKey | None:
        """Return whose key it is, None for one that is unknown, wrong, expired or revoked; constant in time."""
        key_id, _, secret = key.removeprefix(_PREFIX).partition(".")
        # whatever else somebody sends is looked for as well, as nothing: no database takes every text
        wanted = key_id if _ID.fullmatch(key_id) else ""
        with self._engine.connect() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == wanted)).first()
        matches = hmac.compare_digest(_digest(secret), _NOBODY if row is None else row.secret_sha256)
        if row is None or not matches or row.revoked_at is not None:
            return None
        found = _read(row)
        return None if found.expires_at is not None and found.expires_at <= now else found

    def revoke(self, key_id: str, *, now: float) -> None:
        """Refuse it from now on; raises NotFound. A repeat leaves the time at which it was revoked."""
        mine = api_keys.c.id == key_id
        with self._engine.begin() as connection:
            query = update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=now)
            changed = connection.execute(query).rowcount
            if not changed and connection.execute(select(api_keys.c.id).where(mine)).first() is None:
                raise NotFound(f"there is no API key {key_id!r}; `stream-app keys list` shows them")

    def all(self) -> Sequence[ApiKey]:
        """Return all keys, newest first."""
        query = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id)
        with self._engine.connect() as connection:
            return [_read(row) for row in connection.execute(query)]


def _digest(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _read(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
