from concurrent.futures import ThreadPoolExecutor

from broker.configuration import open_redis
from schemas.settings import Settings


def test_commands_wait_for_each_other_where_connections_are_few(settings: Settings) -> None:
    with open_redis(settings, connections=2) as redis, ThreadPoolExecutor(20) as crowd:
        taken = [redis.connection_pool.get_connection() for _ in range(2)]
        answers = [crowd.submit(redis.ping) for _ in range(20)]
        assert not any(answer.done() for answer in answers)
        for connection in taken:
            redis.connection_pool.release(connection)
        assert all(answer.result(10) for answer in answers)
