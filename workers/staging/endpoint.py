"""An address of the object store, under which signed requests are given out."""

from datetime import UTC, datetime
from urllib.parse import SplitResult

from minio.helpers import BaseURL

from schemas.settings import Storage
from workers.staging.signing import Signer
from workers.staging.staging import Place


class Endpoint:
    """Signs requests to one URL of the object store; asks nobody. Times are in seconds from now."""

    def __init__(self, url: str, settings: Storage) -> None:
        self._base = BaseURL(url.rstrip("/"), settings.region)
        self._signer = Signer(settings.access_key, settings.secret_key, settings.region)

    def url(self, method: str, place: Place, *, seconds: int, size: int | None = None, **query: str) -> str:
        """A signed URL of the place; with `size`, for exactly so many bytes."""
        headers = None if size is None else {"content-length": str(size)}
        url = self._address(method, place.bucket, place.key, query)
        return self._signer.url(method, url, seconds=seconds, at=datetime.now(UTC), headers=headers)

    def form(self, place: Place, *, sizes: tuple[int, int], seconds: int) -> tuple[str, dict[str, str]]:
        """URL and fields of a form that puts a file into the place."""
        fields = self._signer.form(place.bucket, place.key, sizes=sizes, seconds=seconds, at=datetime.now(UTC))
        return self._address("POST", place.bucket).geturl(), fields

    def _address(self, method: str, bucket: str, key: str | None = None, query: dict[str, str] | None = None) -> SplitResult:
        region = self._base.region or ""
        return self._base.build(method=method, region=region, bucket_name=bucket, object_name=key, query_params=dict(query or {}))
