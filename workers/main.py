"""The worker's Celery application, for the celery command."""

from broker.configuration import read_settings
from workers.app import create_worker
from workers.remote_control import answer_pings_only

answer_pings_only()
app = create_worker(read_settings("worker"))
