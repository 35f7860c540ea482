"""A stock Celery client, step by step: one command a line comes in, one answer a line goes out."""
import decimal
import json
import sys
import uuid

import celery
import kombu

url = sys.argv[1]
app = celery.Celery("app", broker=url, backend=url)


def send():
    args = [float("nan"), -float("inf"), 12345678901234567890123, "\udc80\u00e9", uuid.UUID(int=7), decimal.Decimal("1.50")]
    app.send_task("simapp.add", args, {"k": float("inf")}, task_id="odd", queue="q", priority=7, compression="gzip", headers={"x": "\ud800"})
    return app.conf.task_compression


def chain():
    a, b, c = (app.signature("simapp.add", args=[n], task_id=i, queue="q") for n, i in ((2, "c1"), (10, "c2"), (100, "c3")))
    celery.chain(a, b, c).apply_async()


def get(queue):
    with kombu.Connection(url) as connection:
        message = connection.default_channel.basic_get(queue)
        if message is None:
            return None
        message.accept = {"json", "application/json"}
        message.ack()
        return {"headers": message.headers, "payload": message.payload, "correlation_id": message.properties["correlation_id"],
                "routing_key": message.delivery_info["routing_key"], "priority": message.properties["priority"]}


def restore():
    with kombu.Connection(url, transport_options={"visibility_timeout": -10}) as connection:
        connection.default_channel.qos.restore_visible()


def result(task):
    r = app.AsyncResult(task)
    value = r.result
    return {"state": r.state, "result": repr(value) if isinstance(value, BaseException) else value, "traceback": r.traceback,
            "children": [child.id for child in r.children or []], "date_done": str(r.date_done)}


for line in sys.stdin:
    name, *args = json.loads(line)
    print(json.dumps(globals()[name](*args)), flush=True)
