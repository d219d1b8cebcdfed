"""One set of options for two clients: what is passed through, what is ours, what cannot be honoured."""

import ssl

import pytest

from stream_app.errors import Misconfigured
from stream_app.kafka import client
from stream_app.kafka.topics import home_partition
from stream_app.settings import KafkaSettings


def _settings(**extra: str | float | bool) -> KafkaSettings:
    named = {name.replace("_", "."): value for name, value in extra.items()}
    return KafkaSettings(bootstrap_servers="localhost:9092", extra=named)


def test_an_address_is_needed() -> None:
    with pytest.raises(Misconfigured, match=r"kafka\.bootstrap_servers is not set"):
        client.bootstrap_servers(KafkaSettings())


def test_any_option_reaches_librdkafka() -> None:
    client.producer(_settings(linger_ms=20, security_protocol="plaintext", socket_keepalive_enable=True))


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(Misconfigured, match="nonsense"):
        client.producer(_settings(nonsense=1))


@pytest.mark.parametrize("name", ["acks", "partitioner", "bootstrap_servers", "isolation_level", "group_id"])
def test_options_that_correctness_rests_on_are_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match=rf"kafka\.extra\.{name.replace('_', '.')} cannot be set"):
        client.producer(_settings(**{name: "1"}))
    with pytest.raises(Misconfigured, match=rf"kafka\.extra\.{name.replace('_', '.')} cannot be set"):
        client.aiokafka_options(_settings(**{name: "1"}))


def test_aiokafka_is_plain_by_default() -> None:
    assert client.aiokafka_options(_settings()) == client.AiokafkaOptions()


def test_aiokafka_ignores_options_of_producers() -> None:
    assert client.aiokafka_options(_settings(linger_ms=5, compression_type="zstd")) == client.AiokafkaOptions()


def test_aiokafka_refuses_what_it_cannot_honour() -> None:
    with pytest.raises(Misconfigured, match=r"kafka\.extra\.broker\.address\.family cannot be honoured"):
        client.aiokafka_options(_settings(broker_address_family="v4"))


def test_a_login_over_tls_is_translated() -> None:
    login = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "worker", "sasl_password": "secret"}
    options = client.aiokafka_options(_settings(security_protocol="SASL_SSL", **login))
    assert (options.sasl_mechanism, options.sasl_username) == ("SCRAM-SHA-512", "worker")
    assert options.sasl_password == "secret"  # noqa: S105 - the point of the test
    assert options.ssl_context is not None
    assert options.ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert options.ssl_context.check_hostname
    assert "secret" not in repr(options)


def test_certificates_may_go_unverified_only_when_said() -> None:
    named = client.aiokafka_options(
        _settings(security_protocol="ssl", ssl_endpoint_identification_algorithm="none")
    ).ssl_context
    off = client.aiokafka_options(
        _settings(security_protocol="ssl", enable_ssl_certificate_verification=False)
    ).ssl_context
    assert named is not None
    assert off is not None
    assert (named.check_hostname, named.verify_mode) == (False, ssl.CERT_REQUIRED)
    assert (off.check_hostname, off.verify_mode) == (False, ssl.CERT_NONE)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"security_protocol": "tls"}, r"security\.protocol is 'tls': expected plaintext, ssl"),
        ({"security_protocol": "sasl_ssl", "sasl_mechanism": "GSSAPI"}, r"sasl\.mechanism is 'GSSAPI': expected"),
        ({"security_protocol": "sasl_plaintext", "sasl_mechanism": "PLAIN"}, r"sasl\.username and sasl\.password"),
        ({"security_protocol": "ssl", "ssl_ca_location": "/no/such/file"}, r"expected readable PEM files"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(extra: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        client.aiokafka_options(_settings(**extra))


@pytest.mark.parametrize(
    ("key", "home"),
    # the vectors of Kafka's own UtilsTest.testMurmur2
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_keys_are_hashed_like_javas(key: bytes, home: int) -> None:
    partitions = 0x7FFFFFFF
    assert home_partition(key, partitions) == (home & 0x7FFFFFFF) % partitions
