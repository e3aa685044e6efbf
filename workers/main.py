"""The worker's Celery application, for the celery command."""

from broker.configuration import read_settings
from broker.trail import open_trail
from workers.app import create_worker
from workers.remote_control import answer_pings_only

answer_pings_only()
_settings = read_settings("worker")
open_trail(_settings.audit)
app = create_worker(_settings)
