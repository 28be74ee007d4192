"""What is asked of an engine, and how it looks as HTTP/1.1.

Made by the pipeline, sent by dispatch: to one replica after another, with one key after another.
"""

from functools import lru_cache

from .catalog import Credential, Replica
from .errors import Headers
from .headers import towards_engine

# copying so much costs less than a second piece to write
_SMALL_BYTES = 16384


class Request:
    """What is asked of an engine. `headers` are the client's, as they came; `body` is in pieces,
    which may be taken away once there is an answer; one without is a GET.

    Requests of one `affinity` go to one replica, as far as that has room.
    """

    __slots__ = ("affinity", "body", "headers", "method", "path", "request_id", "stream")

    def __init__(
        self,
        path: str,
        headers: Headers,
        body: list[bytes | memoryview],
        *,
        request_id: bytes,
        stream: bool = False,
        affinity: int | None = None,
    ) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.method = "POST" if body else "GET"
        self.stream = stream
        self.request_id = request_id
        self.affinity = affinity


def render(request: Request, replica: Replica, credential: Credential) -> list[bytes | memoryview]:
    """Return the bytes of a request: our framing, our key, and the client's other headers."""
    size = 0
    head = [_opening(request.method, request.path, replica), request.request_id]
    for name, value in towards_engine(request.headers):
        head += (b"\r\n", name, b": ", value)
    if credential is not None:
        head += (b"\r\nauthorization: ", credential)
    if request.method == "POST":
        size = sum(map(len, request.body))
        head.append(b"\r\ncontent-length: %d" % size)
    head.append(b"\r\n\r\n")
    if size > _SMALL_BYTES:
        return [b"".join(head), *request.body]
    return [b"".join([*head, *request.body])]


@lru_cache(maxsize=4096)
def _opening(method: str, path: str, replica: Replica) -> bytes:
    """Return how a request to this replica begins; the request's id follows."""
    return (
        f"{method} {path} HTTP/1.1\r\nhost: {authority(replica)}\r\n"
        "accept-encoding: identity\r\nx-request-id: "
    ).encode()


def authority(replica: Replica) -> str:
    """Return `host:port` as a URL has it."""
    host = f"[{replica.host}]" if ":" in replica.host else replica.host
    return f"{host}:{replica.port}"
