"""One place that turns the settings into clients: librdkafka's for us, and the same names for aiokafka."""

import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import confluent_kafka
from confluent_kafka.admin import AdminClient

from stream_app.errors import Misconfigured
from stream_app.kafka.quiet import Seldom
from stream_app.settings import KafkaSettings

Client = TypeVar("Client")

#: librdkafka's own chatter goes here instead of to standard error.
LOGGER: Final = logging.getLogger("stream_app.librdkafka")
# at each start librdkafka calls the option experimental on which our order after a failure rests
LOGGER.addFilter(lambda record: "enable.gapless.guarantee" not in record.getMessage())
LOGGER.addFilter(Seldom())

#: Options that correctness rests on, and the setting that says the same; `kafka.extra` may not change them.
_OURS: Final[Mapping[str, str]] = {
    "bootstrap.servers": "set kafka.bootstrap_servers instead",
    "metadata.broker.list": "set kafka.bootstrap_servers instead",
    "group.id": "set kafka.group_id instead",
    "session.timeout.ms": "set kafka.session_timeout_s instead",
    "acks": "messages are acknowledged by all replicas, always",
    "request.required.acks": "messages are acknowledged by all replicas, always",
    "enable.idempotence": "producers are idempotent, always",
    "enable.auto.commit": "positions live in the window log",
    "enable.auto.offset.store": "positions live in the window log",
    "auto.offset.reset": "positions live in the window log",
    "isolation.level": "only committed records are read, always",
    "partitioner": "keys must land where Java's default partitioner puts them",
    "transactional.id": "the relay chooses it",
}

#: Options that mean nothing to a consumer: librdkafka's producers honour them, aiokafka never sees them.
_PRODUCER_PREFIXES: Final = ("queue.buffering.", "message.", "compression.", "batch.", "linger.", "transaction.")
_PRODUCER_ONLY: Final = frozenset({"delivery.timeout.ms", "retries", "sticky.partitioning.linger.ms"})

#: A name, an address, or one of version 6 in brackets; then the port.
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")
_LARGEST_PORT: Final = 65_535
_TLS: Final = frozenset({"ssl", "sasl_ssl"})
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True, kw_only=True)
class AiokafkaOptions:
    """The connection part of the settings in aiokafka's terms, whatever framework hands it over."""

    #: None means plain text
    ssl_context: ssl.SSLContext | None = None
    #: None means that nobody logs in
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    client_id: str = "stream-app"
    #: static membership: a restart within the session timeout moves no partition
    group_instance_id: str | None = None
    metadata_max_age_ms: int = 300_000
    connections_max_idle_ms: int = 540_000
    #: most bytes of one fetch of one partition, as they are on the wire
    max_partition_fetch_bytes: int = 1_048_576
    #: longest that the broker holds an empty fetch open. A real one answers as soon as a record arrives; the
    #: embedded one waits it out, so that Faust's 1,500 would be how late each record comes
    fetch_max_wait_ms: int = 100


def bootstrap_servers(settings: KafkaSettings) -> str:
    """Return the address; raises Misconfigured when there is none."""
    if not settings.bootstrap_servers:
        raise Misconfigured(
            "kafka.bootstrap_servers is not set: expected host:port, or several with commas between; the embedded "
            "broker of `stream-app up` is found without it, but only in the folder in which that runs, while it runs"
        )
    return settings.bootstrap_servers


def producer(settings: KafkaSettings, **own: object) -> confluent_kafka.Producer:
    """Return an idempotent producer that places keys like Java's default partitioner.

    `own` are further librdkafka options with underscores for dots, and callbacks under their own names.
    Raises Misconfigured for options that librdkafka refuses.
    """
    durable = {"enable.idempotence": True, "acks": "all", "partitioner": "murmur2_random"}
    return _connect(confluent_kafka.Producer, {**_common(settings), **durable, **_dotted(own)})


def consumer(settings: KafkaSettings, **own: object) -> confluent_kafka.Consumer:
    """Return a consumer of committed records that commits nothing by itself; meant for `assign`.

    A position out of range is an error, never a silent jump.
    """
    careful = {
        "group.id": f"{settings.group_id}-reader",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
    }
    return _connect(confluent_kafka.Consumer, {**_common(settings), **careful, **_dotted(own)})


def admin(settings: KafkaSettings, **own: object) -> AdminClient:
    """Return an admin client; raises Misconfigured for options that librdkafka refuses."""
    return _connect(AdminClient, {**_common(settings), **_dotted(own)})


def check_options(settings: KafkaSettings) -> None:
    """Raise Misconfigured for options that librdkafka refuses; reaches nothing, since it names no broker."""
    named = settings.model_copy(update={"bootstrap_servers": "unused"})
    options = {name: value for name, value in _common(named).items() if name != "bootstrap.servers"}
    _connect(AdminClient, {**options, "log_level": 0})


def check_address(settings: KafkaSettings) -> None:
    """Raise Misconfigured unless the address is a list of host:port; reaches nothing."""
    given = settings.bootstrap_servers or ""
    for one in filter(None, map(str.strip, given.split(","))):
        found = _ADDRESS.fullmatch(one)
        if found is None or not 0 < int(found["port"]) <= _LARGEST_PORT:
            break
    else:
        if given.strip(" ,"):
            return
    raise Misconfigured(
        f"kafka.bootstrap_servers = {given!r}: expected host:port, or several with commas between, e.g. a:9092,b:9092"
    )


def untouchable(settings: KafkaSettings) -> dict[str, str]:
    """Return the names in `kafka.extra` that it may not change, each with what is wrong with it."""
    return {name: f"kafka.extra.{name} cannot be set: {_OURS[name]}" for name in settings.extra if name in _OURS}


def groups(extra: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the options in groups that can be judged apart: those of security together, each other one alone."""
    security = {name: value for name, value in extra.items() if name in _SECURITY}
    return [security, *({name: value} for name, value in extra.items() if name not in _SECURITY)]


def aiokafka_options(settings: KafkaSettings) -> AiokafkaOptions:
    """Translate `kafka.extra`; raises Misconfigured for what aiokafka cannot honour."""
    extra = _checked_extra(settings)
    protocol = str(extra.get("security.protocol", "plaintext")).lower()
    if protocol not in {"plaintext", "sasl_plaintext", *_TLS}:
        raise _refused("security.protocol", protocol, "plaintext, ssl, sasl_plaintext or sasl_ssl")
    for name in extra:
        if name not in _FIELDS and name not in _SECURITY and not _is_for_producers(name):
            raise Misconfigured(
                f"kafka.extra.{name} cannot be honoured by the worker's consumer (aiokafka): expected one of "
                f"{', '.join(sorted(_FIELDS.keys() | _SECURITY))}, or an option of producers"
            )
    known: dict[str, Any] = {_FIELDS[name]: value for name, value in extra.items() if name in _FIELDS}
    login = _login(extra) if protocol.startswith("sasl") else {}
    return AiokafkaOptions(ssl_context=_ssl_context(extra) if protocol in _TLS else None, **known, **login)


_FIELDS: Final[Mapping[str, str]] = {
    "client.id": "client_id",
    "group.instance.id": "group_instance_id",
    "metadata.max.age.ms": "metadata_max_age_ms",
    "topic.metadata.refresh.interval.ms": "metadata_max_age_ms",
    "connections.max.idle.ms": "connections_max_idle_ms",
    "max.partition.fetch.bytes": "max_partition_fetch_bytes",
    "fetch.message.max.bytes": "max_partition_fetch_bytes",
    "fetch.wait.max.ms": "fetch_max_wait_ms",
}
_SECURITY: Final = frozenset(
    {
        "security.protocol",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
    }
)


def _ssl_context(extra: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=extra.get("ssl.ca.location"))
        if "ssl.certificate.location" in extra:
            context.load_cert_chain(
                extra["ssl.certificate.location"], extra.get("ssl.key.location"), extra.get("ssl.key.password")
            )
    except OSError as error:  # ssl.SSLError is one of them
        raise Misconfigured(
            f"kafka.extra.ssl.*: expected readable PEM files with a matching key, got {error}"
        ) from error
    # librdkafka spells "off" as none; both have to be off before Python lets the certificate go unverified
    context.check_hostname = extra.get("ssl.endpoint.identification.algorithm", "https") != "none"
    if not _is_true(extra.get("enable.ssl.certificate.verification", True)):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _login(extra: Mapping[str, Any]) -> dict[str, Any]:
    mechanism = str(extra.get("sasl.mechanism", extra.get("sasl.mechanisms", "")))
    if mechanism not in _MECHANISMS:
        raise _refused("sasl.mechanism", mechanism, f"one of {', '.join(_MECHANISMS)}")
    if "sasl.username" not in extra or "sasl.password" not in extra:
        raise Misconfigured(
            f"kafka.extra: sasl.username and sasl.password are expected with sasl.mechanism {mechanism}"
        )
    return {
        "sasl_mechanism": mechanism,
        "sasl_username": str(extra["sasl.username"]),
        "sasl_password": str(extra["sasl.password"]),
    }


def _common(settings: KafkaSettings) -> dict[str, Any]:
    extra = {name: _spelled(value) for name, value in _checked_extra(settings).items()}
    timeout = {"socket.timeout.ms": int(settings.request_timeout_s * 1000)}
    return {**timeout, **extra, "bootstrap.servers": bootstrap_servers(settings), "logger": LOGGER}


def _checked_extra(settings: KafkaSettings) -> Mapping[str, Any]:
    for refusal in untouchable(settings).values():
        raise Misconfigured(refusal)
    return settings.extra


def _connect(build: Callable[[dict[str, Any]], Client], config: dict[str, Any]) -> Client:
    try:
        return build(config)
    except confluent_kafka.KafkaException as error:
        raise Misconfigured(f"kafka.extra: {error.args[0].str()}") from error


def _is_for_producers(name: str) -> bool:
    return name in _PRODUCER_ONLY or name.startswith(_PRODUCER_PREFIXES)


def _dotted(own: Mapping[str, object]) -> dict[str, Any]:
    return {name if callable(value) else name.replace("_", "."): _spelled(value) for name, value in own.items()}


def _spelled(value: object) -> object:
    """Return the value as librdkafka spells it: true, not True."""
    return str(value).lower() if isinstance(value, bool) else value


def _is_true(value: object) -> bool:
    return str(value).lower() in {"true", "1", "t"}


def _refused(name: str, value: str, expected: str) -> Misconfigured:
    return Misconfigured(f"kafka.extra.{name} is {value!r}: expected {expected}")
