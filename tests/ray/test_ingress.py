"""What is in front of an endpoint's replicas, on a real Ray: TLS, who may connect, and what becomes of slow clients."""

import ipaddress
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest
from authorities import Authority, shown

from deploy import Client, EndpointAddress, Scale, endpoint_handle, start_endpoint, stop_endpoint, stop_serve
from deploy.access.tls import LOOK_SECONDS
from deploy.answering import open_inference_pb2 as messages
from deploy.bundle import Kind, Lineage, Schema, constant_model, write_bundle
from deploy.ingress.choice import haproxy_binary
from deploy.ingress.haproxy_door import HEADER_SECONDS
from orchestrator.cli.program import execute
from orchestrator.domain.errors import EndpointError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

SCHEMA = Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=(0, 1))
ROW = {"width": 1.0, "height": 2.0}
# Ray's own processes listen on the host's address; a token guards them where the session is ours.
OF_RAY = ("raylet", "gcs_server", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "dashboard", "log_monitor.py")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(
        tmp_path_factory.mktemp("bundle") / "one",
        onnx_model=constant_model(2, [0.0, 1.0]),
        schema=SCHEMA,
        lineage=Lineage("shapes", 1, 1),
        sample_rows=np.ones((2, 2), dtype=np.float32),
    )


@pytest.fixture(scope="module", params=["haproxy", "serve"])
def address(
    request: pytest.FixtureRequest,
    ray_session: str,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    bundle: Path,
) -> Iterator[EndpointAddress]:
    """One endpoint behind each ingress, with TLS and gRPC."""
    if request.param == "haproxy" and haproxy_binary() is None:
        pytest.skip("there is no wheel with HAProxy for this system")
    storage = tmp_path_factory.mktemp("runs")
    stop_serve()  # where another test left it
    given = {"ingress": request.param, "tls": authority.tls, "grpc_port": 18651, "scale": Scale(1, 1, 0.5)}
    address = start_endpoint("shapes", storage, port=18650, **given)
    endpoint_handle("shapes").promote(str(bundle))
    yield address
    stop_endpoint("shapes")
    assert stop_serve()


@pytest.fixture
def is_haproxy(address: EndpointAddress) -> bool:
    return address.ingress == "HAProxy"


def wait_until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def infer(address: EndpointAddress, credentials: grpc.ChannelCredentials) -> Any:
    request = messages.ModelInferRequest(
        model_name="shapes",
        inputs=[
            messages.ModelInferRequest.InferInputTensor(
                name="rows",
                datatype="FP32",
                shape=[1, 2],
                contents=messages.InferTensorContents(fp32_contents=[1.0, 2.0]),
            )
        ],
    )
    with grpc.secure_channel(str(address.grpc_target), credentials) as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        return ask(request, metadata=[("authorization", f"Bearer {address.token}")], timeout=30)


def test_a_client_that_knows_the_authority_is_answered(address: EndpointAddress, authority: Authority) -> None:
    assert address.url.startswith("https://")
    for verify in (str(authority.certificate), authority.certificate, address.verify):
        with Client(address.url, address.token, verify=verify) as client:
            assert client.predict([ROW]).predictions == (1,)


def test_a_client_that_does_not_know_it_asks_nothing(address: EndpointAddress) -> None:
    with (
        Client(address.url, address.token, attempts=1) as client,
        pytest.raises(EndpointError, match="certificate verify failed"),
    ):
        client.predict([ROW])


def test_an_admin_from_outside_names_the_authority(
    address: EndpointAddress, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["history", address.name, "--address", address.url, "--token-file", str(address.token_file)]
    assert execute([*words, "--authorities", str(authority.certificate)]) == 0
    assert "promoted" in capsys.readouterr().out
    assert execute(words) == 1
    assert "certificate verify failed" in capsys.readouterr().err
    assert execute([*words, "--authorities", str(address.token_file)]) == 1
    assert "cannot be read as PEM" in capsys.readouterr().err


def test_nothing_is_answered_in_the_clear(address: EndpointAddress) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{address.port}/v2/health/live")


def test_grpc_speaks_tls(address: EndpointAddress, authority: Authority) -> None:
    known = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
    assert list(infer(address, known).outputs[0].contents.int64_contents) == [1]
    with pytest.raises(grpc.RpcError) as raised:
        infer(address, grpc.ssl_channel_credentials())
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_shown_while_the_endpoint_goes_on(
    address: EndpointAddress, authority: Authority
) -> None:
    ports = int(address.port), int(str(address.grpc_target).rpartition(":")[2])
    certificate, key = authority.issue()
    with Client(address.url, address.token, verify=authority.certificate) as client:
        assert client.predict([ROW]).predictions == (1,)
        authority.write(certificate)  # the key comes later
        time.sleep(2 * LOOK_SECONDS)
        assert all(shown(port) != certificate for port in ports)
        authority.write(key=key)
        for port in ports:
            wait_until(lambda port=port: shown(port) == certificate)
        assert client.predict([ROW]).predictions == (1,)
    known = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
    assert list(infer(address, known).outputs[0].contents.int64_contents) == [1]
    with Client(address.url, address.token, verify=address.verify) as client:  # pins the file
        assert client.predict([ROW]).predictions == (1,)


def is_public(address: str) -> bool:
    given = ipaddress.ip_address(address)
    mapped = given.ipv4_mapped if isinstance(given, ipaddress.IPv6Address) else None  # ::ffff:127.0.0.1 is gRPC's form
    return not (mapped or given).is_loopback


def listening() -> list[tuple[str, bool, int]]:
    """Returns who listens, whether for other hosts, and at which port, of this process and all below it."""
    found = []
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            name = f"{process.pid} {process.name()} {' '.join(process.cmdline())}"
            sockets = process.net_connections("tcp")
        except psutil.Error:
            continue
        found += [
            (name, is_public(each.laddr.ip), each.laddr.port) for each in sockets if each.status == psutil.CONN_LISTEN
        ]
    return found


def test_nothing_of_serves_listens_for_other_hosts(address: EndpointAddress, is_haproxy: bool) -> None:
    found = listening()
    assert {address.port, address.grpc_port} <= {port for _, public, port in found if not public}
    assert any("haproxy.cfg" in name for name, _, _ in found) == is_haproxy
    public = Counter(name for name, public, _ in found if public and not any(word in name for word in OF_RAY))
    # each of Ray's workers, and this process, has one port, at which other workers ask it for objects
    assert {name: count for name, count in public.items() if count > 1} == {}
    assert all("ray::" in name or str(os.getpid()) in name for name in public), public


def test_a_header_that_does_not_come_is_not_waited_for(address: EndpointAddress) -> None:
    context = address.verify
    assert isinstance(context, ssl.SSLContext)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", address.port))) as slow:
        slow.settimeout(HEADER_SECONDS * 6)
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\n")
        began = time.monotonic()
        assert b" 408 " in slow.recv(4096)
        assert time.monotonic() - began > HEADER_SECONDS / 2  # it was given its time
    assert httpx.get(f"{address.url}/v2/health/live", verify=context).json() == {"live": True}


def test_a_header_that_is_too_large_is_not_read(address: EndpointAddress, is_haproxy: bool) -> None:
    large = {"x-a": "a" * 40_000}
    answer = httpx.get(f"{address.url}/v2/health/live", verify=address.verify, headers=large)
    assert answer.status_code == (400 if is_haproxy else 431)
    assert httpx.get(f"{address.url}/v2/health/live", verify=address.verify).json() == {"live": True}
