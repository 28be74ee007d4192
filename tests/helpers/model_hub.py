"""A Hugging Face hub on a folder: what `huggingface_hub` needs to list and download a repository.

`python tests/helpers/model_hub.py FOLDER --port PORT` serves FOLDER/ORG/NAME as ORG/NAME, for an
engine with HF_ENDPOINT. A file `.tokens` in a repository makes it gated: its lines are the tokens
that have been granted access. The token `hf_expired` is valid nowhere. Statuses and X-Error-Code
are those of huggingface.co. Standard library only: it runs in a pod, too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

BRANCH = "main"
EXPIRED = "hf_expired"
TOKENS = ".tokens"


class RefusalError(Exception):
    """An answer that is an error: its status, huggingface.co's code and text for it."""

    def __init__(self, status: HTTPStatus, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


class Repository:
    """A folder as a repository with one revision."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder / name, name
        self.commit = hashlib.sha1(name.encode()).hexdigest()  # noqa: S324 - looks like git's

    @property
    def exists(self) -> bool:
        """Whether there is such a folder."""
        return self.name.count("/") == 1 and ".." not in self.name and self.folder.is_dir()

    @property
    def files(self) -> list[Path]:
        """Everything that can be downloaded."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name != TOKENS)
        return sorted(found)

    def has(self, revision: str) -> bool:
        """Return whether a revision is the only one: its branch, or how its commit begins."""
        return revision == BRANCH or (len(revision) >= 7 and self.commit.startswith(revision))

    def open_to(self, token: str) -> bool:
        """Return whether a token opens it; none is needed for one that is not gated."""
        granted = self.folder / TOKENS
        return not granted.exists() or token in granted.read_text().split()


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; every path is one of the API's or a file's."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without one."""
        self._answer()

    def _answer(self) -> None:
        try:
            if self._token == EXPIRED:
                text = "Invalid credentials in Authorization header"
                raise RefusalError(HTTPStatus.UNAUTHORIZED, "", text)
            path = unquote(urlsplit(self.path).path).strip("/")
            if path.startswith("api/models/"):
                self._send_json(self._api(path.removeprefix("api/models/")))
            else:
                self._send_file(path)
        except RefusalError as refusal:
            self._refuse(refusal)

    def _api(self, path: str) -> object:
        name, _, rest = _split(path)
        repository = self._repository(name)
        what, _, revision = rest.partition("/")
        self._require_revision(repository, revision.partition("/")[0] or BRANCH)
        if what == "tree":
            return [
                {"type": "file", "path": path, "size": size, "oid": repository.commit}
                for path, size in _listing(repository)
            ]
        return {
            "id": name,
            "modelId": name,
            "sha": repository.commit,
            "private": False,
            "gated": "manual" if (repository.folder / TOKENS).exists() else False,
            "siblings": [{"rfilename": path} for path, _ in _listing(repository)],
        }

    def _send_file(self, path: str) -> None:
        name, _, rest = _split(path)
        repository = self._repository(name)
        how, _, rest = rest.partition("/")
        revision, _, file = rest.partition("/")
        if how != "resolve":
            raise RefusalError(HTTPStatus.NOT_FOUND, "", "Not Found")
        self._require_access(repository)
        self._require_revision(repository, revision)
        target = repository.folder / file
        if target not in repository.files:
            raise RefusalError(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        body = target.read_bytes()
        headers = {
            "X-Repo-Commit": repository.commit,
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "Content-Type": "application/octet-stream",
        }
        self._send(HTTPStatus.OK, body, headers)

    def _repository(self, name: str) -> Repository:
        """Return a repository; without a token, none and a private one look the same."""
        repository = Repository(self.folder, name)
        if repository.exists:
            return repository
        if self._token:
            raise RefusalError(HTTPStatus.NOT_FOUND, "RepoNotFound", "Repository not found")
        raise RefusalError(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Invalid username or password.")

    def _require_revision(self, repository: Repository, revision: str) -> None:
        if not repository.has(revision):
            text = f"Invalid rev id: {revision}"
            raise RefusalError(HTTPStatus.NOT_FOUND, "RevisionNotFound", text)

    def _require_access(self, repository: Repository) -> None:
        if repository.open_to(self._token):
            return
        restricted = f"Access to model {repository.name} is restricted"
        if not self._token:
            text = (
                f"{restricted}. You must have access to it and be authenticated to access it."
                " Please log in."
            )
            raise RefusalError(HTTPStatus.UNAUTHORIZED, "GatedRepo", text)
        text = (
            f"{restricted} and you are not in the authorized list."
            f" Visit https://huggingface.co/{repository.name} to ask for access."
        )
        raise RefusalError(HTTPStatus.FORBIDDEN, "GatedRepo", text)

    @property
    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ").strip()

    def _refuse(self, refusal: RefusalError) -> None:
        headers = {"X-Error-Message": refusal.text}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        body = json.dumps({"error": refusal.text}).encode()
        self._send(refusal.status, body, {"Content-Type": "application/json", **headers})

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self._send(HTTPStatus.OK, body, {"Content-Type": "application/json"})

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _split(path: str) -> tuple[str, str, str]:
    """Return a path's repository, a slash, and what follows it."""
    organization, _, rest = path.partition("/")
    name, slash, rest = rest.partition("/")
    return f"{organization}/{name}", slash, rest


def _listing(repository: Repository) -> list[tuple[str, int]]:
    return [
        (str(path.relative_to(repository.folder)), path.stat().st_size) for path in repository.files
    ]


def hub(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """Return a server for the repositories in a folder, which is yet to be run."""
    bound = type("BoundHandler", (Handler,), {"folder": folder})
    return ThreadingHTTPServer((host, port), bound)


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="A Hugging Face hub on a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    given = parser.parse_args()
    hub(given.folder, host=given.host, port=given.port).serve_forever()


if __name__ == "__main__":
    main()
