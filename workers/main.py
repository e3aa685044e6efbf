"""The worker's Celery application, for the celery command."""

from broker.configuration import read_settings
from workers.app import create_worker

app = create_worker(read_settings())
