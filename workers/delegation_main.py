"""The delegation's Celery application, for the celery command."""

from broker.configuration import read_settings
from workers.delegation import create_delegation
from workers.remote_control import answer_pings_only

answer_pings_only()
app = create_delegation(read_settings("delegation"))
