"""Arguments for redis-py's connections: a wrong one is refused by name when the layer is made, not when it connects."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from sealane.exceptions import InvalidChannelLayerError, ServerUnreachable
from sealane.layers.redis.access import scrub
from sealane.layers.redis.arguments import check_arguments, missing_files
from sealane.layers.redis.hosts import parse_hosts
from tests.servers import Server
from tests.servers.certificates import Certificates


def parse(**arguments: Any) -> None:
    parse_hosts([{"host": "cache", "ssl": True, "password": "s3cret", **arguments}])


def check(**arguments: Any) -> None:
    """Ask our own checks only: not every release of redis-py takes each of the arguments."""
    check_arguments("hosts", arguments)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("credential_provider", "s3cret", "a str of 6 characters; expected a redis.credentials.CredentialProvider"),
        ("socket_keepalive", "maybe", "a str of 5 characters; expected True or False"),
        ("socket_keepalive_options", 5, "5; expected a dict of socket options to their values"),
        ("socket_read_size", "65536", "a str of 5 characters; expected a whole number of bytes above 0"),
        ("socket_read_size", 0, "0; expected a whole number of bytes above 0"),
        ("ssl_ca_certs", 5, "5; expected the path of a file"),
        ("ssl_ca_certs", "", "an empty str; expected the path of a file"),
        ("ssl_ca_data", 5, "5; expected certificates, as a str or bytes"),
        ("ssl_ca_path", True, "True; expected the path of a directory"),
        ("ssl_cert_reqs", "nonsense", "a str of 8 characters; expected 'none', 'optional' or 'required'"),
        ("ssl_cert_reqs", False, "False; expected 'none', 'optional' or 'required'"),
        ("ssl_certfile", b"x", "of type bytes; expected the path of a file"),
        ("ssl_check_hostname", "no", "a str of 2 characters; expected True or False"),
        ("ssl_ciphers", ["x"], "of type list; expected a str in the format of OpenSSL"),
        ("ssl_exclude_verify_flags", "x", "a str of 1 characters; expected a list of ssl.VerifyFlags"),
        ("ssl_include_verify_flags", [1], "of type list; expected a list of ssl.VerifyFlags"),
        ("ssl_keyfile", 1, "1; expected the path of a file"),
        ("ssl_min_version", "TLSv1.2", "a str of 7 characters; expected an ssl.TLSVersion, such as"),
        ("ssl_password", 12345, "12345; expected a str"),
    ],
)
def test_a_value_of_another_kind(name: str, value: object, message: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=rf"hosts\['{name}'\] is {message}") as caught:
        parse_hosts([{"host": "cache", "ssl": True, name: value}])
    assert "s3cret" not in str(caught.value)


def test_an_argument_that_only_redis_py_can_refuse() -> None:
    with pytest.raises(InvalidChannelLayerError, match="hosts has an argument that redis-py refuses: OverflowError"):
        parse(socket_read_size=2**70)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ssl_cert_reqs": None, "ssl_ca_certs": None, "ssl_ciphers": None, "socket_keepalive_options": None},
        {"ssl_cert_reqs": ssl.CERT_OPTIONAL, "ssl_min_version": ssl.TLSVersion.TLSv1_3, "ssl_check_hostname": False},
        {"ssl_include_verify_flags": [ssl.VERIFY_X509_STRICT], "ssl_exclude_verify_flags": []},
        {"ssl_ciphers": "ECDHE+AESGCM", "socket_read_size": 4096, "socket_keepalive": False},
        {"ssl_ca_certs": "/not/there/yet.pem", "ssl_certfile": Path("/not/there/yet.pem")},
    ],
)
def test_values_that_may_be_right(arguments: dict[str, Any]) -> None:
    check(**arguments)


def test_certificates_and_keys_that_can_be_used(certificates: Certificates) -> None:
    parse(ssl_ca_certs=certificates.ca, ssl_certfile=str(certificates.client), ssl_keyfile=certificates.client_key)
    parse(ssl_ca_data=certificates.ca.read_text())
    check(ssl_ca_path=str(certificates.ca.parent))


def test_certificates_and_keys_that_cannot_be_used(certificates: Certificates, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no certificate")
    chain = {"ssl_certfile": certificates.client, "ssl_keyfile": certificates.client_key}
    for arguments, names in (
        ({"ssl_ca_certs": text}, "'ssl_ca_certs'"),
        ({"ssl_ca_certs": certificates.ca, "ssl_ca_data": "nonsense"}, "'ssl_ca_certs', 'ssl_ca_data'"),
        ({"ssl_ca_data": "s3cret"}, "'ssl_ca_data'"),
        ({**chain, "ssl_certfile": text}, "'ssl_certfile', 'ssl_keyfile'"),
        ({**chain, "ssl_keyfile": certificates.server_key}, "'ssl_certfile', 'ssl_keyfile'"),
        ({"ssl_ciphers": "nonsense"}, "'ssl_ciphers'"),
    ):
        with pytest.raises(InvalidChannelLayerError, match=rf"hosts has {names} that cannot be used: ") as caught:
            parse(**arguments)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__context__ is None
    with pytest.raises(InvalidChannelLayerError, match="hosts has 'ssl_keyfile' without 'ssl_certfile'; expected both"):
        parse(ssl_keyfile=certificates.client_key)


def test_a_key_under_a_password(certificates: Certificates, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(certificates.client_key.read_bytes(), None)
    encrypted = tmp_path / "client.key"
    encryption = serialization.BestAvailableEncryption(b"s3cret")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    encrypted.write_bytes(key.private_bytes(pem, pkcs8, encryption))
    chain = {"ssl_certfile": str(certificates.client), "ssl_keyfile": str(encrypted)}
    check(**chain, ssl_password="s3cret")
    # OpenSSL would ask for the password at the terminal.
    for wrong in ({}, {"ssl_password": "other"}):
        with pytest.raises(InvalidChannelLayerError, match=r"'ssl_certfile', 'ssl_keyfile'.* that cannot be used: "):
            check(**chain, **wrong)


async def test_a_file_that_is_not_there_is_named_when_a_connection_needs_it(tls_server: Server, tmp_path: Path) -> None:
    """It may be put there later: the setting is right, and so is the check of settings while an image is built."""
    authority = tmp_path / "ca.pem"
    (place,) = parse_hosts([{"address": tls_server.url, "ssl_ca_certs": str(authority)}])
    with pytest.raises(ServerUnreachable, match=r"\(no such file: 'ssl_ca_certs'\)"):
        await place.open(timeout=5, name=None)
    assert tls_server.certificates is not None
    authority.write_bytes(tls_server.certificates.ca.read_bytes())
    connection = await place.open(timeout=5, name=None)
    await connection.disconnect()
    assert missing_files({"ssl_ca_certs": str(authority), "ssl_certfile": None}) == ""


def test_an_error_of_pythons_own_tls_can_be_told() -> None:
    """It has no reason, unlike those of OpenSSL; a link that met one ended with it."""
    with pytest.raises(ssl.SSLError) as caught:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers("nonsense")
    error = ConnectionError("Error connecting")
    error.__context__ = caught.value
    assert scrub(error) == "Error connecting"
