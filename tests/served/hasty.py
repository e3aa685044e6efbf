"""A server whose clients have less time."""

from api.server import Worker


class Hasty(Worker):
    head_seconds = 1.0
