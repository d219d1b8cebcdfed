"""API keys and the audit log on both databases."""

import pytest
from sqlalchemy import Engine, text

from stream_app.errors import NotFound
from stream_app.serving_ports import Deed
from stream_app.storage.api_keys import SqlApiKeys
from stream_app.storage.audit import SqlAudit

NOW = 1_700_000_000.0


@pytest.fixture
def keys(engine: Engine) -> SqlApiKeys:
    return SqlApiKeys(engine)


def test_a_key_opens_until_it_is_revoked(keys: SqlApiKeys) -> None:
    key, made = keys.create("page", ["predict", "feedback"], now=NOW, expires_at=None)
    found = keys.verify(key, now=NOW)
    assert found == made
    assert (made.name, made.scopes) == ("page", frozenset({"predict", "feedback"}))
    keys.revoke(made.id, now=NOW + 1)
    assert keys.verify(key, now=NOW + 1) is None
    keys.revoke(made.id, now=NOW + 2)
    assert keys.all()[0].revoked_at == NOW + 1


def test_a_key_opens_until_it_expires(keys: SqlApiKeys) -> None:
    key, made = keys.create("page", ["read"], now=NOW, expires_at=NOW + 10)
    assert keys.verify(key, now=NOW + 9.9) == made
    assert keys.verify(key, now=NOW + 10) is None


@pytest.mark.parametrize("bad", ["", ".", "sak_", "sak_0000000000000000.x", "x" * 10_000, "\udcff", "sak_\0.\0"])
def test_what_is_no_key_opens_nothing(keys: SqlApiKeys, bad: str) -> None:
    keys.create("page", ["read"], now=NOW, expires_at=None)
    assert keys.verify(bad, now=NOW) is None


def test_a_key_with_another_secret_or_id_opens_nothing(keys: SqlApiKeys) -> None:
    one, first = keys.create("one", ["read"], now=NOW, expires_at=None)
    other, second = keys.create("other", ["admin"], now=NOW + 1, expires_at=None)
    mixed = f"sak_{second.id}.{one.partition('.')[2]}"
    assert keys.verify(mixed, now=NOW) is None
    assert keys.verify(one[:-1], now=NOW) is None
    assert keys.verify(other, now=NOW) == second
    assert keys.all() == [second, first]


def test_no_secret_is_stored(keys: SqlApiKeys, engine: Engine) -> None:
    key, _ = keys.create("page", ["read"], now=NOW, expires_at=None)
    with engine.connect() as connection:
        stored = " ".join(str(value) for row in connection.execute(text("SELECT * FROM api_keys")) for value in row)
    assert key.partition(".")[2] not in stored


def test_revoking_what_is_not_there_is_an_error(keys: SqlApiKeys) -> None:
    with pytest.raises(NotFound, match="no API key 'nope'"):
        keys.revoke("nope", now=NOW)


def test_the_audit_log_keeps_deeds_newest_first(engine: Engine) -> None:
    audit = SqlAudit(engine)
    deeds = [
        Deed(at=NOW + i, actor="key x", action="promote", model="m" if i else None, details={"version": i})
        for i in range(5)
    ]
    for deed in deeds:
        audit.note(deed)
    assert audit.newest(limit=3) == deeds[:1:-1]


def test_names_that_are_too_long_for_the_audit_log_are_cut(engine: Engine) -> None:
    audit = SqlAudit(engine)
    audit.note(Deed(at=NOW, actor="a" * 1_000, action="b" * 1_000, model=None, details={}))
    (deed,) = audit.newest()
    assert (len(deed.actor), len(deed.action)) == (200, 60)
