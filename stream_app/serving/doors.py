"""Who may come in: API keys, what each of them may do, and how a route says what it asks for.

@router.post("/retrain", **door(Scope.TRAIN, summary="…", answers={202: ("started", {…})}))
async def retrain(caller: CallerOf, tools: ToolsOf, request: Request) -> Response: …
"""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

from stream_app.errors import Outage
from stream_app.ports import Clock
from stream_app.serving.errors import Problem
from stream_app.serving.limits import Buckets
from stream_app.serving_ports import ApiKey, ApiKeys

#: Seconds for which a key is believed without asking the database: how long a revoked one may go on.
FRESH_S: Final = 5.0
MOST_REMEMBERED: Final = 10_000
LONGEST_KEY: Final = 200


class Scope(StrEnum):
    """What a key may be allowed to do; `admin` includes all others."""

    READ = "read"
    PREDICT = "predict"
    FEEDBACK = "feedback"
    TRAIN = "train"
    PROMOTE = "promote"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    #: for the audit log: the key's id and name, or "anonymous"
    name: str
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """Return whether the caller may do this."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


#: Who asks where there are no keys.
ANYBODY: Final = Caller(name="anonymous", scopes=frozenset(Scope))


class Keyring:
    """Remembers for a few seconds what the database said of a key; while that is away, what it said last."""

    def __init__(self, keys: ApiKeys, *, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        #: by digest of the key as it was sent: (what it is, when that was asked)
        self._seen: OrderedDict[bytes, tuple[ApiKey | None, float]] = OrderedDict()
        self._any: tuple[bool, float] | None = None

    async def any(self) -> bool:
        """Return whether there is a valid key at all; raises Outage."""
        now = self._clock()
        if self._any is None or now - self._any[1] > FRESH_S:
            try:
                self._any = (await asyncio.to_thread(any_valid, self._keys, now), now)
            except Outage:
                if self._any is None:
                    raise
        return self._any[0]

    def fresh(self, key: str) -> tuple[ApiKey | None, bool]:
        """Return what is known of a key, and whether that is so new that nobody has to ask."""
        now = self._clock()
        found, at = self._seen.get(_digest(key), (None, float("-inf")))
        valid = found if found is not None and not _is_over(found, now) else None
        return valid, now - at <= FRESH_S

    async def find(self, key: str) -> ApiKey | None:
        """Ask the database whose key it is; raises Outage for one that was not seen before."""
        now = self._clock()
        try:
            found = await asyncio.to_thread(self._keys.verify, key, now=now)
        except Outage:
            known, _ = self.fresh(key)
            if known is None:
                raise
            return known
        self._seen[_digest(key)] = (found, now)
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return found


def any_valid(keys: ApiKeys, now: float) -> bool:
    """Return whether there is a key that is neither revoked nor expired."""
    return any(key.revoked_at is None and not _is_over(key, now) for key in keys.all())


def _is_over(key: ApiKey, now: float) -> bool:
    return key.expires_at is not None and key.expires_at <= now


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


class Guard:
    """Lets a request in or not."""

    def __init__(self, keyring: Keyring, buckets: Buckets, *, hosts: frozenset[str] | None) -> None:
        """`hosts` are the names under which we may be called while there are no keys; None: any."""
        self._keyring = keyring
        self._buckets = buckets
        self._hosts = hosts

    async def admit(self, request: Request, scope: Scope) -> Caller:
        """Return who asks; raises Problem 401, 403 or 429, and Outage when nobody can tell."""
        key = _presented(request)
        if key is None:
            return await self._without_key(request)
        found, is_fresh = self._keyring.fresh(key)
        if found is None or not is_fresh:
            # by address before the database is asked: guessing keys must not be cheap
            self._buckets.take(f"address {_address(request)}")
            found = found if is_fresh else await self._keyring.find(key)
        if found is None:
            raise _unknown("the API key is unknown, revoked or expired")
        self._buckets.take(found.id)
        caller = Caller(name=f"{found.id} {found.name}", scopes=found.scopes)
        if not caller.may(scope):
            raise Problem(403, f"this API key lacks the scope {scope.value!r}")
        return caller

    async def _without_key(self, request: Request) -> Caller:
        self._buckets.take(f"address {_address(request)}")
        if await self._keyring.any():
            raise _unknown("an API key is needed: send it as `Authorization: Bearer KEY` or as `X-API-Key`")
        self._refuse_foreign(request)
        return ANYBODY

    def _refuse_foreign(self, request: Request) -> None:
        """Without keys a page of any site that somebody here looks at could speak to us through the browser."""
        host = request.headers.get("host", "")
        if self._hosts is not None and (urlsplit(f"//{host}").hostname or "") not in self._hosts:
            raise Problem(403, "without API keys only requests to this machine's own names are answered")
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Problem(403, "without API keys no requests of other sites' pages are answered")


def _presented(request: Request) -> str | None:
    """Return the key that a request brings, None if it brings none."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    return key[:LONGEST_KEY] or None


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _unknown(words: str) -> Problem:
    return Problem(401, words, headers={"WWW-Authenticate": "Bearer"})
