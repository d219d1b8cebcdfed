"""Ed25519 signatures: who holds the private key publishes, everybody else can only verify.

A signature is bound to its purpose by a prefix, so that one made for an artifact proves nothing about an
event. The private key lives with worker and trainer; a host that only subscribes gets the public half.
"""

import base64
import binascii
from enum import StrEnum
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stream_app.errors import Corrupt, Misconfigured
from stream_app.messages import ModelUpdated
from stream_app.redaction import REDACTED
from stream_app.storage.durable import create_file
from stream_app.storage.private_files import kept_secret

_PEM = serialization.Encoding.PEM
_MAX_KEY_BYTES = 10_000


class Purpose(StrEnum):
    """What a signature is about; part of what is signed."""

    ARTIFACT = "artifact"
    EVENT = "event"

    def bind(self, message: bytes) -> bytes:
        """Return the bytes that are really signed: the zero byte ends the purpose, no two purposes overlap."""
        return b"stream_app:" + self.value.encode() + b":v1\0" + message


class Verifier:
    """Checks signatures with the public key."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    @classmethod
    def from_pem(cls, pem: str) -> "Verifier":
        """Read a public key; raises Misconfigured unless it is Ed25519 in PEM."""
        try:
            key = serialization.load_pem_public_key(pem.encode())
        except ValueError as error:
            raise Misconfigured(f"storage.verify_key = {pem[:40]!r}: expected an Ed25519 public key in PEM") from error
        if not isinstance(key, Ed25519PublicKey):
            raise Misconfigured(f"storage.verify_key: expected an Ed25519 public key in PEM, got {type(key).__name__}")
        return cls(key)

    def check(self, purpose: Purpose, message: bytes, signature: str) -> None:
        """Return if `signature` (base64) was made for this purpose and message, else raise Corrupt."""
        try:
            self._key.verify(base64.b64decode(signature, validate=True), purpose.bind(message))
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise Corrupt(f"the signature of this {purpose} is missing, forged or made with another key") from error


class Signer:
    """Makes signatures with the private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def from_pem(cls, pem: str) -> "Signer":
        """Read a private key; raises Misconfigured unless it is Ed25519 in PEM without a password."""
        try:
            key = serialization.load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError) as error:
            raise Misconfigured(
                f"storage.signing_key = {REDACTED}: expected an Ed25519 private key in PEM, no password"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Misconfigured(
                f"storage.signing_key: expected an Ed25519 private key in PEM, got {type(key).__name__}"
            )
        return cls(key)

    def sign(self, purpose: Purpose, message: bytes) -> str:
        """Return the base64 signature of the message for this purpose."""
        return base64.b64encode(self._key.sign(purpose.bind(message))).decode()

    def verifier(self) -> Verifier:
        """Return the other half."""
        return Verifier(self._key.public_key())

    def public_pem(self) -> str:
        """Return the public key, to be given to hosts that only subscribe."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(_PEM, form).decode()


def sign_event(event: ModelUpdated, signer: Signer) -> ModelUpdated:
    """Return the event with a signature over all its other fields."""
    return event.model_copy(update={"signature": signer.sign(Purpose.EVENT, _canonical(event))})


def verify_event(event: ModelUpdated, verifier: Verifier) -> None:
    """Return if the event was signed by the holder of the private key, else raise Corrupt."""
    verifier.check(Purpose.EVENT, _canonical(event), event.signature)


def _canonical(event: ModelUpdated) -> bytes:
    # From the parsed values, not from the wire: whoever re-encodes the JSON does not break the signature.
    return orjson.dumps(event.model_dump(mode="json", exclude={"signature"}), option=orjson.OPT_SORT_KEYS)


def open_signer(root: Path, pem: str | None = None) -> Signer:
    """Return the signer of the given PEM, or of `<root>/keys/signing.pem`, which the first caller makes.

    The public half is kept beside it as `signing.pub`. Two first runs at once agree on one key. Raises
    Misconfigured for a key file that others may read: whoever reads it can forge models.
    """
    if pem is not None:
        return Signer.from_pem(pem)
    folder = root / "keys"
    try:
        return _kept_signer(folder)
    except OSError as error:
        raise Misconfigured(
            f"{folder}: the public half of the signing key cannot be kept there, expected our own folder: {error}"
        ) from error


def _kept_signer(folder: Path) -> Signer:
    path, public = folder / "signing.pem", folder / "signing.pub"
    signer = Signer.from_pem(kept_secret(path, _new_private_pem, what="the signing key"))
    if not public.exists():
        create_file(public, signer.public_pem().encode(), mode=0o644)
    if public.read_text() != signer.public_pem():
        raise Misconfigured(f"{public} is not the public half of {path.name}: remove it after a change of keys")
    return signer


def open_verifier(root: Path, pem: str | None = None) -> Verifier:
    """Return the verifier of the given PEM, or of `<root>/keys/signing.pub`; raises Misconfigured without either."""
    if pem is not None:
        return Verifier.from_pem(pem)
    path = root / "keys" / "signing.pub"
    try:
        return Verifier.from_pem(path.read_text()[:_MAX_KEY_BYTES])
    except FileNotFoundError as error:
        raise Misconfigured(
            f"storage.verify_key: not set, and {path} does not exist; expected the publisher's public key in PEM"
        ) from error


def _new_private_pem() -> bytes:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(_PEM, form, plain)
