"""The delegation's Celery application, for the celery command."""

from broker.configuration import read_settings
from workers.delegation import create_delegation

app = create_delegation(read_settings())
