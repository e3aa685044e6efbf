"""Requests signed for others to make, computed without asking the object store (AWS Signature Version 4)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import SplitResult, quote, urlunsplit

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Signer:
    """Keys and region of an S3 account. Moments are in UTC, times in seconds."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str

    def url(self, method: str, url: SplitResult, *, seconds: int, at: datetime, headers: Mapping[str, str] | None = None) -> str:
        """The URL with a signature for one method, valid for `seconds` from `at` on.

        `headers` (names in lower case) must come with the request exactly so. Path and query are percent-encoded already.
        """
        signed = dict(sorted({"host": url.netloc, **(headers or {})}.items()))
        query = self._query(url.query, seconds=seconds, at=at, headers=signed)
        lines = [method, url.path, query, *(f"{name}:{value}" for name, value in signed.items()), "", ";".join(signed), "UNSIGNED-PAYLOAD"]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        signature = self._signature(f"{ALGORITHM}\n{_stamp(at)}\n{self._scope(at)}\n{digest}", at)
        return urlunsplit(url._replace(query=f"{query}&X-Amz-Signature={signature}"))

    def form(self, bucket: str, key: str, *, sizes: tuple[int, int], seconds: int, at: datetime) -> dict[str, str]:
        """The fields of a form that puts a file of least to largest of `sizes` (bytes) under the key, and nothing else."""
        fields = {
            "key": key,
            "x-amz-algorithm": ALGORITHM,
            "x-amz-credential": f"{self.access_key}/{self._scope(at)}",
            "x-amz-date": _stamp(at),
        }
        conditions = [["eq", "$bucket", bucket], *(["eq", f"${name}", value] for name, value in fields.items())]
        policy = {
            "expiration": f"{at + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.000Z}",
            "conditions": [*conditions, ["content-length-range", *sizes]],
        }
        # as it is: radosgw does not read the pairs of escapes that stand for letters beyond U+FFFF
        encoded = base64.b64encode(json.dumps(policy, ensure_ascii=False).encode()).decode()
        return fields | {"policy": encoded, "x-amz-signature": self._signature(encoded, at)}

    def _query(self, given: str, *, seconds: int, at: datetime, headers: Mapping[str, str]) -> str:
        added = {
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{self._scope(at)}",
            "X-Amz-Date": _stamp(at),
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": ";".join(headers),
        }
        pairs = [*filter(None, given.split("&")), *(f"{name}={quote(value, safe='')}" for name, value in added.items())]
        return "&".join(sorted(pairs, key=lambda pair: pair.split("=", 1)))

    def _scope(self, at: datetime) -> str:
        return f"{at:%Y%m%d}/{self.region}/s3/aws4_request"

    def _signature(self, said: str, at: datetime) -> str:
        key = f"AWS4{self.secret_key}".encode()
        for word in self._scope(at).split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        return hmac.digest(key, said.encode(), "sha256").hex()


def _stamp(at: datetime) -> str:
    return f"{at:%Y%m%dT%H%M%SZ}"
