"""Becomes HAProxy, with a configuration that was mended: `haproxy_door.py -f CONFIGURATION …`, HAProxy's own arguments.

Serve writes the configuration anew before each start and each reload; it has no place for options of ours, and this
program, given to Serve as the binary, is the way in. It adds TLS, limits for slow clients, and errors that a client
may act on; it takes away what listens on all addresses (statistics at 8404, metrics at 9101), a log line by UDP for
each request, and everybody's access to the admin socket.

A request may meet the end of the connection to a replica that ends, or that closes what was idle for long. HAProxy then
sends it again; where it may not, or could not keep the whole of it, it tells the client nothing and hangs up. What
cannot be sent again has a connection of its own, therefore: nobody closes one that was opened for a request.

A process that dies with -9 takes its HAProxy with it: Linux is asked to. Its successor knows no replicas when it starts
HAProxy again, and would answer 404 until it does: it begins with the routes that were there.

It runs once for each reload, while clients wait: standard library only, and nothing of this package.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

SETTINGS = "ORCHESTRATOR_INGRESS"  # of the environment: what is done to the configuration
CERTIFICATE = "tls.pem"  # beside the configuration: a link to the server's
OWNER = "ORCHESTRATOR_INGRESS_OWNER"  # of HAProxy's environment: its process, by pid and start in clock ticks
PR_SET_PDEATHSIG = 1
START_FIELD = 19  # of /proc/PID/stat behind the name
HEADER_SECONDS = 5  # for a request's header, from its first byte
BODY_SECONDS = 10  # for its body, or the first 16 KiB of it
CLIENT_SECONDS = 30  # a client that neither sends nor reads for so long is gone
RETRY_AFTER_SECONDS = 1
BUFFER_BYTES = 32 * 1024  # of HAProxy for a request; what fits into it can be sent again
AGAIN_BYTES = 24 * 1024  # of a body that fits into it, with the header and HAProxy's own
UNWANTED_SECTIONS = ("frontend prometheus", "listen stats")
UNWANTED_LINES = ("log ", "option httplog", "option log-health-checks", "errorfile ", "timeout client ")
ERRORS = {
    502: "the replica ended before it answered; ask again",
    503: "no replica is there to answer; ask again",
    504: "the replica did not answer in time",
}
PUBLIC_SECTIONS = ("frontend http_frontend", "frontend grpc_frontend")
ONCE = ":once"  # behind a backend's name, which has no colon: for requests that cannot be sent again

SIZE = "tune.bufsize "

Section = tuple[str, list[str]]  # its first line, and those below


def mended(configuration: str, *, errors: dict[int, str], certificate: str | None) -> str:
    """Returns the configuration that HAProxy is to have, made of the one that Serve wrote.

    Args:
        configuration: Serve's.
        errors: paths of the files with the answers for statuses that HAProxy gives itself.
        certificate: path of the file with the certificate, its key beside it with `.key` behind; None for no TLS.
    """
    made = []
    for head, lines in _sections(configuration):
        if head.startswith(UNWANTED_SECTIONS) or head.endswith(ONCE):
            continue
        kept = [line for line in lines if not line.strip().startswith(UNWANTED_LINES)]
        if head == "global":
            kept = [line.replace(" mode 666 ", " mode 600 ") for line in kept if not line.strip().startswith(SIZE)]
            kept.append(f"    {SIZE}{BUFFER_BYTES}")
        elif head == "defaults":
            kept += [f"    {line}" for line in _limits(errors)]
        elif head.startswith(PUBLIC_SECTIONS):
            kept = list(_door(kept, certificate, is_grpc="grpc" in head))
        made += [head, *kept]
        if head.startswith("backend http-"):
            made += [head + ONCE, *_connection_for_each(kept)]
    return "\n".join(made) + "\n"


def _sections(configuration: str) -> Iterator[Section]:
    head, lines = "", []
    for line in configuration.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            lines.append(line)
            continue
        if head:
            yield head, lines
        head, lines = line.strip(), []
    if head:
        yield head, lines


def has_routes(configuration: str) -> bool:
    """Returns whether any application is behind the doors."""
    return "use_backend " in configuration


def doors(configuration: str) -> list[str]:
    """Returns what the configuration listens on."""
    return [line for line in configuration.splitlines() if line.strip().startswith("bind ")]


def _with_routes(made: str, kept: str) -> str:
    """Returns the configuration, or the last one that had routes where it has none and listens on the same."""
    if has_routes(made) or not os.path.exists(kept):
        return made
    last = _read(kept)
    return last if doors(last) == doors(made) else made


def _limits(errors: dict[int, str]) -> Iterator[str]:
    yield f"timeout client {CLIENT_SECONDS}s"
    yield f"timeout http-request {HEADER_SECONDS}s"
    for status, path in errors.items():
        yield f"errorfile {status} {path}"


def _door(lines: list[str], certificate: str | None, *, is_grpc: bool) -> Iterator[str]:
    for line in lines:
        if line.strip().startswith("use_backend http-"):
            _, backend, condition = line.split(maxsplit=2)
            if backend.endswith(ONCE):
                continue
            yield f"    use_backend {backend}{ONCE} {condition} !changes_nothing"
            yield f"    use_backend {backend}{ONCE} {condition} {{ req.body_size gt {AGAIN_BYTES} }}"
        if not line.strip().startswith("bind "):
            yield line
            continue
        yield line if certificate is None else _with_tls(line, certificate, is_grpc)
        # of other requests nobody knows whether a dead replica did them
        yield "    acl changes_nothing method GET HEAD"
        yield "    acl changes_nothing path_end /predict /infer /ModelInfer"
        yield "    http-request disable-l7-retry if !changes_nothing"
        yield f"    http-request wait-for-body time {BODY_SECONDS}s if METH_POST"
        if not is_grpc:
            yield "    option forwardfor"
            if certificate is not None:
                yield "    http-request set-header x-forwarded-proto https"


def _connection_for_each(lines: list[str]) -> Iterator[str]:
    yield from (line for line in lines if not line.strip().startswith("http-reuse "))
    yield "    http-reuse never"
    yield "    option http-server-close"


def _with_tls(line: str, certificate: str, is_grpc: bool) -> str:
    protocols = "h2" if is_grpc else "h2,http/1.1"
    bound = line.rstrip().removesuffix(" proto h2")
    return f"{bound} ssl crt {certificate} alpn {protocols} ssl-min-ver TLSv1.2"


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, content: str) -> str:
    """Writes a file that only we may read; returns its path."""
    beside = f"{path}.{os.getpid()}"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    os.rename(beside, path)
    return path


def _link(file: str, path: str) -> None:
    beside = f"{path}.{os.getpid()}"
    os.symlink(file, beside)
    os.rename(beside, path)


def _error(status: int, reason: str) -> str:
    body = json.dumps({"error": reason})
    again = f"Retry-After: {RETRY_AFTER_SECONDS}\r\n" if status == 503 else ""
    return (
        f"HTTP/1.1 {status} {reason.partition(';')[0]}\r\nContent-Type: application/json\r\n{again}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def _own(directory: str) -> None:
    """Makes the directory ours alone; raises where it is somebody else's."""
    if os.stat(directory).st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to another user")
    os.chmod(directory, 0o700)


def _die_with(parent: int) -> None:
    """Has this process, whatever it becomes, killed when its parent is gone."""
    prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it was asked
        sys.exit(1)


def _started(pid: int) -> str:
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[START_FIELD]


def main(arguments: list[str]) -> None:
    """Mends the configuration in its place and becomes HAProxy."""
    parent = os.getppid()
    settings: dict[str, Any] = json.loads(os.environ[SETTINGS])
    path = arguments[arguments.index("-f") + 1]
    directory = os.path.dirname(path)
    _own(os.path.dirname(directory))
    _own(directory)
    certificate = None
    if settings["tls"] is not None:
        certificate = os.path.join(directory, CERTIFICATE)  # HAProxy looks for the key beside it; neither is copied
        _link(settings["tls"]["certificate"], certificate)
        _link(settings["tls"]["key"], f"{certificate}.key")
    errors = {status: os.path.join(directory, f"{status}.http") for status in ERRORS}
    for status, reason in ERRORS.items():
        _write(errors[status], _error(status, reason))
    made = mended(_read(path), errors=errors, certificate=certificate)
    _write(path, made if "-sf" in arguments else _with_routes(made, f"{path}.kept"))
    if has_routes(made):
        _write(f"{path}.kept", made)
    _die_with(parent)
    owner = f"{parent} {_started(parent)}"
    os.execve(settings["binary"], [settings["binary"], *arguments], os.environ | {OWNER: owner})


if __name__ == "__main__":
    main(sys.argv[1:])
