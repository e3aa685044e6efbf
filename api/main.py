"""The WSGI instance."""

import logging
import threading
from collections.abc import Callable

from api.app import create_app
from api.identity import BearerTokens
from broker.blobs import Blobs
from broker.celery import create_celery
from broker.configuration import open_redis, read_settings
from broker.gateway import Gateway
from broker.grants import GrantSigner
from broker.health import Health
from broker.limits import Limiter
from broker.replies import Replies
from broker.tasks import Tasks
from broker.tokens import TokenVerifier
from broker.trail import open_trail

_LOG = logging.getLogger(__name__)
_REDIS_CONNECTIONS = 64  # a thousand calls at once are no thousand commands at once
_PREPARING_SECONDS = 3


def _prepare(*ways: Callable[[], None]) -> None:
    """Open at once what every call needs, so that a first crowd need not wait for it; what fails is tried again by whoever needs it."""

    def run(way: Callable[[], None]) -> None:
        try:
            way()
        except Exception as failed:  # noqa: BLE001 (the outermost frame of a thread)
            _LOG.warning("cannot prepare yet: %s", failed)

    threads = [threading.Thread(target=run, args=(way,), daemon=True) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PREPARING_SECONDS)


_settings = read_settings("api")
open_trail(_settings.audit)
_redis = open_redis(_settings, connections=_REDIS_CONNECTIONS)
_gateway = Gateway(
    create_celery(_settings),
    tasks=Tasks(_redis, lifetime=_settings.limits.task_seconds),
    blobs=Blobs(_redis),
    replies=Replies(_redis),
    signer=GrantSigner.of(_settings.keys),
    limits=_settings.limits,
    storage=_settings.storage,
)
_verifier = TokenVerifier(_settings.issuers)
app = create_app(_settings, _gateway, BearerTokens(_verifier), Health(_redis), Limiter(_redis, _settings.limits))
_prepare(_gateway.open, *_verifier.fetchers())
