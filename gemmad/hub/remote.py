"""The hub at the other end: what a repository holds, the bytes of its files, and its refusals in plain words.

huggingface_hub finds addresses, sends the token and knows the hub's errors. It begins a file anew when a download was
cut (https://github.com/huggingface/huggingface_hub/pull/4228), and checks no more than its size: reading the bytes,
going on where they ended and checking them is our own (`fetch`).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from urllib.parse import urlsplit

from huggingface_hub import HfApi, close_session, constants, get_session, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import hf_raise_for_status, logging  # type: ignore[attr-defined]
from msgspec import Struct

from gemmad import __version__
from gemmad.config.models import ModelName
from gemmad.hub.files import HubFile
from gemmad.hub.problems import NoAccessError, PullError, UnknownModelNameError, UnreachableError
from gemmad.hub.token import HOW_TO, Token

TIMEOUT_SECONDS = 30.0
"""Without a byte."""
TRANSPORT_ERRORS: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
"""What its HTTP library raises (httpx, httpx2 from its version 2 on), and OSError: its own error is derived of both."""
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Status codes that may be others a moment later."""


class Listing(Struct, frozen=True):
    """A repository at one commit."""

    commit: str
    files: tuple[HubFile, ...]


class Hub:
    """Use it in `with`. Its methods may be called from several threads."""

    def __init__(self, *, token: Token | None, endpoint: str | None = None) -> None:
        """`endpoint` None takes HF_ENDPOINT, else the public hub."""
        self._token = token
        self._endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._headers = {"User-Agent": f"gemmad/{__version__}", "Accept-Encoding": "identity"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token.value}"  # not sent on when the hub leads elsewhere
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it warns across the progress bar

    def __enter__(self) -> Hub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_session()

    def listing(self, name: ModelName) -> Listing:
        """What the repository holds now. Raises PullError."""
        api = HfApi(self._endpoint, token=False if self._token is None else self._token.value)
        try:
            found = api.model_info(name.repo, revision=name.revision, files_metadata=True, timeout=TIMEOUT_SECONDS)
        except TRANSPORT_ERRORS as error:
            raise self._translated(error, name) from error
        files = tuple(
            HubFile(file.rfilename, file.size, file.blob_id, None if file.lfs is None else file.lfs.sha256)
            for file in found.siblings or ()
            if file.size is not None and file.blob_id is not None
        )
        if not found.sha or not files:
            raise PullError(f"{self._endpoint} does not tell what {name} holds, so it is no hub")
        return Listing(found.sha, files)

    def read(self, name: ModelName, commit: str, file: str, *, offset: int) -> Iterator[bytes]:
        """The file's bytes from `offset` on, maybe not to its end. Raises PullError; a cut is an UnreachableError."""
        url = hf_hub_url(name.repo, file, revision=commit, endpoint=self._endpoint)
        headers = {**self._headers, "Range": f"bytes={offset}-"} if offset else self._headers
        try:
            with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS) as response:
                if response.status_code >= 400:
                    response.read()  # the reason is in it
                    hf_raise_for_status(response)
                skip = offset if response.status_code == 200 else 0  # it may have no ear for ranges
                for chunk in response.iter_bytes():  # as they come: a cut loses none
                    if len(chunk) > skip:
                        yield chunk[skip:]
                    skip = max(0, skip - len(chunk))
        except TRANSPORT_ERRORS as error:
            raise self._translated(error, name) from error

    def _translated(self, error: Exception, name: ModelName) -> PullError:
        host = urlsplit(self._endpoint).netloc
        page = f"{self._endpoint}/{name.repo}"
        if isinstance(error, OfflineModeIsEnabled):
            return UnreachableError("HF_HUB_OFFLINE is set, so the hub is not asked")
        if isinstance(error, GatedRepoError):
            return NoAccessError(self._gated(name, page))
        if isinstance(error, RevisionNotFoundError):
            return UnknownModelNameError(f"{name.repo} has no revision {name.revision or 'main'!r}; see {page}")
        if isinstance(error, HfHubHTTPError):
            return self._refused(error, name, host)
        words = str(error) or type(error).__name__
        return UnreachableError(f"cannot reach {host}: {words}")

    def _refused(self, error: HfHubHTTPError, name: ModelName, host: str) -> PullError:
        status = error.response.status_code
        if status == 401 and self._token is not None:
            return NoAccessError(f"{host} does not know the token from {self._token.source}: it is mistyped or expired")
        if isinstance(error, RepositoryNotFoundError):
            who = "a token may be needed to see it" if self._token is None else "the token's account may not see it"
            return UnknownModelNameError(
                f"{host} shows no model {name.repo}: it does not exist, or is private and {who}"
            )
        if status in _PASSING:
            return UnreachableError(f"{host} answers HTTP {status}")
        if status in (401, 403):
            return NoAccessError(f"{host} does not let us read {name.repo} (HTTP {status}); {HOW_TO}")
        return PullError(f"{host} answers HTTP {status} for {name}")

    def _gated(self, name: ModelName, page: str) -> str:
        first = f"{name.repo} is gated. Accept its licence, once, signed in at\n    {page}\n"
        if self._token is None:
            return f"{first}then make a token that may read at\n    {self._endpoint}/settings/tokens\nand {HOW_TO}"
        return (
            f"{first}with the account of the token from {self._token.source}, which the hub refuses as yet. A "
            "fine-grained token also needs the permission to read public gated repositories"
        )
