"""TLS with certificates on both sides and a login: the same options reach both of Kafka's clients."""
# ruff: noqa: ANN401 - a conftest's class cannot be named here

import datetime as dt
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from confluent_kafka.admin import NewTopic
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stream_app.kafka import client, topics
from stream_app.kafka.producer import Producer
from stream_app.ports import Outgoing
from stream_app.settings import KafkaSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(450)]

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kafka"
PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{{broker}},CONTROLLER://127.0.0.1:{{controller}},SASL_SSL://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},SASL_SSL://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \\
  required user_worker="let me in";
ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
"""


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, without_broker: Callable[[str], NoReturn]
) -> Iterator[KafkaSettings]:
    """Yield settings for a broker of its own that lets nobody in without certificate and password."""
    folder = tmp_path_factory.mktemp("certificates")
    _write_certificates(folder)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    (folder / "extra.properties").write_text(PROPERTIES.format(folder=folder, port=port))
    environment = {**os.environ, "KAFKA_EXTRA_PROPERTIES": str(folder / "extra.properties")}
    command = [sys.executable, str(SCRIPT), "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as broker:
        assert broker.stdout is not None
        if not broker.stdout.readline():
            without_broker("NO SECURED BROKER: it needs Java 17 and Maven")
        extra = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "worker",
            "sasl.password": "let me in",
            "ssl.ca.location": str(folder / "ca.pem"),
            "ssl.certificate.location": str(folder / "client.pem"),
            "ssl.key.location": str(folder / "client.pem"),
        }
        yield KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{port}", request_timeout_s=10, session_timeout_s=6, extra=extra
        )
        broker.terminate()


def test_a_worker_logs_in_with_certificate_and_password(
    recording: Any, secured: KafkaSettings, wait_until: Callable[..., None]
) -> None:
    admin = client.admin(secured)
    admin.create_topics([NewTopic(recording.topic, 1, 1)])[recording.topic].result()
    Producer(secured)([Outgoing(topic=recording.topic, key=b"k", value=str(n).encode()) for n in range(100)])
    worker = recording.start(bootstrap=secured.bootstrap_servers, extra=dict(secured.extra))
    wait_until(lambda: recording.count() == 100)
    assert recording.stop(worker) == 0
    assert topics.lag(admin, recording.group, [recording.topic]) == {(recording.topic, 0): 0}


def test_a_wrong_password_is_a_matter_of_settings(recording: Any, secured: KafkaSettings) -> None:
    worker = recording.start(bootstrap=secured.bootstrap_servers, extra={**secured.extra, "sasl.password": "guess"})
    assert worker.wait(60) == 78
    assert f"Kafka at {secured.bootstrap_servers} does not let us in" in recording.output()
    assert "Authentication failed" in recording.output()
    assert "guess" not in recording.output()


def _write_certificates(folder: Path) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", authority_key, authority_key, "authority")
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, authority_key, "authority")
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.pem").write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, issuer: str
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(signer, hashes.SHA256())
    )
