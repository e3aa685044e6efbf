"""The WSGI instance."""

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

_REDIS_CONNECTIONS = 64  # a thousand calls at once are no thousand commands at once

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
app = create_app(_settings, _gateway, BearerTokens(TokenVerifier(_settings.issuers)), Health(_redis), Limiter(_redis, _settings.limits))
