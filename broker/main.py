"""A Celery application that performs nothing, for beat."""

from broker.celery import create_celery
from broker.configuration import read_settings

app = create_celery(read_settings("beat"))
