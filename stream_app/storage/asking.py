"""Asking a model's owner for another version: what is asked for, and what would be refused anyway."""

from dataclasses import dataclass
from typing import Literal

from stream_app.errors import Conflict
from stream_app.ports import Stores
from stream_app.values import VersionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that waits for the owner."""

    request: int
    version: int


def ask_for(stores: Stores, model: str, kind: Literal["promote", "rollback"], version: int | None, *, by: str) -> Asked:
    """Store the request; without a version a rollback means what served before.

    Raises NotFound for an unknown model or version, Conflict for one that cannot serve.
    """
    chosen = _before(stores, model) if version is None else version
    if stores.registry.version(model, chosen).status is VersionStatus.REJECTED:
        raise Conflict(f"{model}: version {chosen} was rejected by the gate, so it was never stored and cannot serve")
    return Asked(request=stores.control.ask(model, kind, {"version": chosen}, by=by), version=chosen)


def _before(stores: Stores, model: str) -> int:
    previous = stores.registry.previous(model)
    if previous is None:
        champion, _ = stores.registry.champion(model)
        raise Conflict(f"{model}: no other version served before {f'version {champion}' if champion else 'now'}")
    return previous
