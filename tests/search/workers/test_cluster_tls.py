"""The encrypted connection of docs/cluster.md, with certificates of our own, on loopback."""

import datetime
import ipaddress
import subprocess

import pytest

from onnxopt.errors import NativeError
from onnxopt.search.workers.cluster import Cluster, security_of
from tests.cli.conftest import cli

__all__ = ["cli"]

pytestmark = pytest.mark.slow

x509 = pytest.importorskip("cryptography.x509")


def _signed(name, key, issuer, issuer_key, *, authority=False):
    from cryptography.hazmat.primitives import hashes

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _files(folder):
    """Write an authority, and a certificate and key that it signed."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir()
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _signed("authority", authority_key, None, authority_key, authority=True)
    certificate = _signed("desk", key, authority, authority_key)
    (folder / "ca.pem").write_bytes(authority.public_bytes(form.Encoding.PEM))
    (folder / "cert.pem").write_bytes(certificate.public_bytes(form.Encoding.PEM))
    plain = form.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, plain))
    return tuple(str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return _files(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def encrypted(ours):
    distributed = pytest.importorskip("distributed")
    from distributed.security import Security

    authority, certificate, key = ours
    roles = {f"tls_{role}_{what}": path for role in ("scheduler", "worker", "client")
             for what, path in (("cert", certificate), ("key", key))}  # fmt: skip
    security = Security(tls_ca_file=authority, require_encryption=True, **roles)
    with distributed.LocalCluster(
        n_workers=1, processes=False, security=security, protocol="tls://", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_who_holds_a_certificate_takes_part(encrypted, ours):
    assert encrypted.startswith("tls://")
    with Cluster(encrypted, security=security_of(ours)) as cluster:
        assert cluster.anywhere.submit(sum, [1, 2]).result(60) == 3


@pytest.mark.parametrize("with_files", [True, False])
def test_nobody_else_does(encrypted, tmp_path, with_files):
    strangers = security_of(_files(tmp_path / "strangers")) if with_files else None
    with pytest.raises(NativeError, match="ONX407"), Cluster(encrypted, security=strangers, timeout_s=3):
        pass


@pytest.mark.parametrize("with_files", [True, False])
def test_a_worker_that_is_refused_ends_in_one_line(encrypted, tmp_path, cli, monkeypatch, with_files):
    monkeypatch.setattr("onnxopt.cli.worker.subprocess.run", lambda *_, **__: pytest.fail("the worker was started"))
    files = _files(tmp_path / "strangers") if with_files else ()
    options = [word for pair in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), files, strict=False) for word in pair]
    ended = cli("worker", encrypted if with_files else encrypted.replace("tls://", "tcp://"), *options)
    assert (ended.code, ended.err[:6], ended.err.count("\n")) == (4, "ONX407", 1)


def test_a_worker_with_a_certificate_is_started(encrypted, ours, cli, monkeypatch):
    begun = []
    monkeypatch.setattr(
        "onnxopt.cli.worker.subprocess.run",
        lambda words, **_: begun.append(words) or subprocess.CompletedProcess(words, 0),
    )
    options = [word for pair in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), ours, strict=True) for word in pair]
    assert cli("worker", encrypted, *options).code == 0
    assert encrypted in begun[0]
