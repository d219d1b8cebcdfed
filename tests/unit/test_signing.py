"""Signatures: made by one key for one purpose, and worth nothing otherwise."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_app.errors import Corrupt, Misconfigured
from stream_app.messages import ModelUpdated, ServingEntry
from stream_app.storage.signing import Purpose, Signer, Verifier, open_signer, open_verifier, sign_event, verify_event


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


def event(**changes: object) -> ModelUpdated:
    entry = ServingEntry(
        role="champion",
        weight=1.0,
        version="3",
        algorithm="sklearn:LogisticRegression",
        path="m/3-ab.zip",
        sha256="0" * 64,
        size=10,
        signature="",
        metrics={"accuracy": 0.8, "log_loss": None},
        trained_through_seq=7,
        trained_through_at=1.5,
    )
    fields = {"model": "m", "promotion_seq": 4, "serving": [entry], "published_at": 2.0}
    return ModelUpdated.model_validate(fields | changes)


def test_a_signature_verifies(signer: Signer) -> None:
    signer.verifier().check(Purpose.ARTIFACT, b"message", signer.sign(Purpose.ARTIFACT, b"message"))


@pytest.mark.parametrize("signature", ["", "no base64!", "AAAA", "ä"])
def test_what_is_no_signature_is_refused(signer: Signer, signature: str) -> None:
    with pytest.raises(Corrupt, match="signature"):
        signer.verifier().check(Purpose.ARTIFACT, b"message", signature)


def test_a_signature_holds_for_its_message_key_and_purpose_only(signer: Signer) -> None:
    """The purpose counts: a signature for an artifact cannot be replayed as one for an event."""
    signature = signer.sign(Purpose.ARTIFACT, b"message")
    with pytest.raises(Corrupt):
        signer.verifier().check(Purpose.ARTIFACT, b"massage", signature)
    with pytest.raises(Corrupt):
        signer.verifier().check(Purpose.EVENT, b"message", signature)
    with pytest.raises(Corrupt):
        Signer(Ed25519PrivateKey.generate()).verifier().check(Purpose.ARTIFACT, b"message", signature)


def test_an_event_survives_its_way_over_the_wire(signer: Signer) -> None:
    signed = sign_event(event(), signer)
    verify_event(ModelUpdated.model_validate_json(signed.model_dump_json()), signer.verifier())


@pytest.mark.parametrize("change", [{"promotion_seq": 5}, {"model": "n"}, {"published_at": 3.0}])
def test_a_changed_event_is_refused(signer: Signer, change: dict[str, object]) -> None:
    forged = sign_event(event(), signer).model_copy(update=change)
    with pytest.raises(Corrupt):
        verify_event(forged, signer.verifier())


def test_a_changed_serving_entry_is_refused(signer: Signer) -> None:
    signed = sign_event(event(), signer)
    forged = signed.model_copy(update={"serving": [signed.serving[0].model_copy(update={"path": "m/2-cd.zip"})]})
    with pytest.raises(Corrupt):
        verify_event(forged, signer.verifier())


def test_the_first_run_makes_a_private_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    signer = open_signer(tmp_path)
    mode = stat.S_IMODE((tmp_path / "keys" / "signing.pem").stat().st_mode)
    assert mode == 0o600
    open_verifier(tmp_path).check(Purpose.EVENT, b"x", signer.sign(Purpose.EVENT, b"x"))
    assert open_signer(tmp_path).public_pem() == signer.public_pem()


def test_first_runs_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {signer.public_pem() for signer in pool.map(open_signer, [tmp_path] * 8)}
    assert len(keys) == 1
    assert sorted(entry.name for entry in (tmp_path / "keys").iterdir()) == ["signing.pem", "signing.pub"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    open_signer(tmp_path)
    (tmp_path / "keys" / "signing.pem").chmod(0o640)
    with pytest.raises(Misconfigured, match="0640, expected 0600"):
        open_signer(tmp_path)


def test_a_public_key_of_another_private_key_is_refused(tmp_path: Path) -> None:
    open_signer(tmp_path)
    (tmp_path / "keys" / "signing.pub").write_text(Signer(Ed25519PrivateKey.generate()).public_pem())
    with pytest.raises(Misconfigured, match="not the public half"):
        open_signer(tmp_path)


def test_a_host_without_any_public_key_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"storage\.verify_key: not set"):
        open_verifier(tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1())
    private = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = other.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(Misconfigured, match=r"storage\.signing_key: expected an Ed25519 private key"):
        open_signer(tmp_path, private.decode())
    with pytest.raises(Misconfigured, match=r"storage\.verify_key: expected an Ed25519 public key"):
        open_verifier(tmp_path, public.decode())


@pytest.mark.parametrize("read", [Signer.from_pem, Verifier.from_pem])
def test_what_is_no_key_is_refused(read: object) -> None:
    assert callable(read)
    with pytest.raises(Misconfigured, match=r"storage\.(signing|verify)_key = .*: expected an Ed25519"):
        read("hello")
