"""The audit trail of the API: one line for every request, and the id by which it is found again."""

import time

from flask import Flask, Response, g, request

from broker.trail import Trail, request_id

HEADER = "X-Request-ID"


def keep_trail(app: Flask) -> None:
    """Give every request an id, which its answer bears in X-Request-ID, and record what became of it."""
    trail = Trail("api")

    @app.before_request
    def arrived() -> None:
        g.began = time.perf_counter()
        g.request_id = request_id(request.headers.get(HEADER, ""))

    @app.after_request
    def answered(response: Response) -> Response:
        response.headers[HEADER] = g.request_id
        rule = request.url_rule
        trail.record(
            request=g.request_id,
            user=g.caller.user if "caller" in g else None,
            method=request.method,
            path=rule.rule if rule else request.path,
            operation=g.operation.task() if "operation" in g else None,
            system=g.get("system"),
            task=g.get("task_id"),
            status=response.status_code,
            error=g.get("failed"),
            held=g.get("held"),
            ms=round(1000 * (time.perf_counter() - g.began), 1),
            client=request.remote_addr,
            agent=request.headers.get("User-Agent"),
        )
        return response
