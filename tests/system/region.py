"""A region of EC2 on this machine: moto answers for it, and every instance that runs is a host out of namespaces.

Instances come to be as Ray's AWS provider asks for them, and go as it, or a test, ends them. Not modelled: images, the
metadata service, and the enforcement of roles and security groups.
"""

import base64
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree

import httpx
from hosts import ROOT, Host, Hosts

NAME = "us-west-2"
NETWORK = "172.31.0.1/16"  # moto's default VPC; AWS keeps the first address of a subnet for its router
PORT = 5555
KEY_NAME = "test"
IMAGE = "ami-1e749f67"  # any that moto lists
CLIENT = ROOT / ".venv/aws"  # boto3, beside the venv: botocore and our pins do not agree on python-dateutil
START_SECONDS = 60.0
POLL_SECONDS = 0.5
NAMESPACE = "{*}"  # whichever; moto writes it its own way
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}  # moto takes any


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as EC2 describes it."""

    id: str
    state: str
    ip: str
    is_spot: bool


class Region:
    """The region, for as long as it is entered. A thread of its own makes hosts of instances.

    Args:
        hosts: the network in which they come to be.
        python: a Python that has moto.
    """

    def __init__(self, hosts: Hosts, python: str) -> None:
        self._hosts = hosts
        self._python = python
        self._endpoint = f"http://{hosts.outside}:{PORT}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="region")
        self.errors: list[str] = []

    @staticmethod
    def environment(hosts: Hosts) -> dict[str, str]:
        """Returns what clients and instances have to have in their environment."""
        return CREDENTIALS | {
            "AWS_ENDPOINT_URL": f"http://{hosts.outside}:{PORT}",
            "AWS_DEFAULT_REGION": NAME,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONPATH": f"{CLIENT}:{ROOT}",
        }

    def __enter__(self) -> "Region":
        command = [self._python, "-m", "moto.server", "-H", self._hosts.outside, "-p", str(PORT)]
        # without its managed policies moto refuses the role that Ray makes for the head
        environment = {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true", "PATH": str(Path(self._python).parent)}
        self._server = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            self._await_server()
            key = base64.b64encode(self._hosts.key.with_suffix(".pub").read_bytes()).decode()
            self._ask("ImportKeyPair", KeyName=KEY_NAME, PublicKeyMaterial=key)
        except BaseException:
            self._server.kill()
            self._server.wait()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._server.kill()
        self._server.wait()

    def instances(self) -> list[Instance]:
        """Returns the instances that are not terminated."""
        answer = self._ask("DescribeInstances")
        found = [
            Instance(
                _text(item, "instanceId"),
                _text(item, "instanceState/name"),
                _text(item, "privateIpAddress"),
                _text(item, "instanceLifecycle") == "spot",
            )
            for item in answer.findall(f".//{NAMESPACE}instancesSet/{NAMESPACE}item")
        ]
        return [instance for instance in found if instance.state in ("pending", "running")]

    def host(self, instance: Instance) -> Host:
        """Returns the host that an instance is."""
        return next(host for host in self._hosts.all if host.name == instance.id)

    def vanish(self, instance: Instance) -> None:
        """Takes an instance away as the spot market does, without a word to anybody."""
        self._hosts.cut_power(self.host(instance))
        self._ask("TerminateInstances", **{"InstanceId.1": instance.id})

    def _keep(self) -> None:
        """Makes hosts of instances, and takes those away whose instance is gone."""
        while not self._ended.wait(POLL_SECONDS):
            try:
                running = {instance.id: instance for instance in self.instances() if instance.state == "running"}
                known = {host.name: host for host in self._hosts.all}
                for name in sorted(running.keys() - known.keys()):
                    self._hosts.add(name, running[name].ip)
                for name in sorted(known.keys() - running.keys()):
                    self._hosts.remove(known[name])
            except Exception as error:  # noqa: BLE001 - a thread's edge: the test looks at what is recorded here
                self.errors.append(repr(error))

    def _await_server(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(self._endpoint, timeout=2)
                return
            except httpx.TransportError:
                assert self._server.poll() is None, "moto ended"
                assert time.monotonic() < deadline, "moto does not answer"
                time.sleep(POLL_SECONDS)

    def _ask(self, action: str, **given: str) -> ElementTree.Element:
        """Returns EC2's answer. moto reads the region from the signature and does not check it."""
        scope = f"testing/20260101/{NAME}/ec2/aws4_request"
        headers = {"authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none"}
        form: Mapping[str, str] = {"Action": action, "Version": "2016-11-15", **given}
        answer = httpx.post(self._endpoint, data=form, headers=headers, timeout=20)
        answer.raise_for_status()
        return ElementTree.fromstring(answer.text)


def _text(item: ElementTree.Element, path: str) -> str:
    return item.findtext("/".join(NAMESPACE + part for part in path.split("/"))) or ""
