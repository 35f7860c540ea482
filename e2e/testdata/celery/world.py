"""What the points of the checklist share: the application, a plain connection to
its Redis, and the test that started us, which can be asked to do things to the
worker and to Redis.

A point is a function whose name is p, its number and a sentence; points that
belong to no number of the checklist begin with x. Each prints one line of JSON.
"""
import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import traceback
import uuid

import celery.exceptions
import kombu.exceptions
import redis

import simapp
from simapp import app

NODE = os.environ["CELERY_NODE"]
# The worker under test is a Python worker: to see that the points can be met.
PYTHON = os.environ.get("CELERY_REFERENCE") == "1"
LONG = os.environ.get("CELERY_LONG") == "1"

db = redis.Redis.from_url(simapp.broker, decode_responses=True)

SEP = simapp.options.get("sep", "\x06\x16")
STEPS = simapp.options.get("priority_steps", [0, 3, 6, 9])
PREFIX = simapp.options.get("global_keyprefix", "")
UNACKED = PREFIX + simapp.options.get("unacked_key", "unacked")
UNACKED_INDEX = PREFIX + simapp.options.get("unacked_index_key", "unacked_index")
DEAD = PREFIX + "nanoos.dead-letters"


class Skip(Exception):
    """The point says nothing about this kind of worker."""


def needs_nanoos():
    if PYTHON:
        raise Skip("a Python worker does not do this")


def ask(what, **args):
    """Has the test do something, such as to kill the worker."""
    print(json.dumps({"ask": what, "args": args}), flush=True)
    answer = json.loads(sys.stdin.readline())
    if answer.get("error"):
        raise RuntimeError("%s: %s" % (what, answer["error"]))
    return answer.get("value")


def eventually(timeout, what, so):
    """Polls until something is so and returns it."""
    deadline = time.monotonic() + timeout
    while True:
        value = so()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not within %s s: %s (last: %r)" % (timeout, what, value))
        time.sleep(0.02)


def equal(got, want, what="got"):
    assert got == want, "%s: %r, want %r" % (what, got, want)


def raises(result, timeout=30):
    """The exception that a result ends with."""
    try:
        value = result.get(timeout=timeout)
    except Exception as e:  # whatever the worker said
        return e
    raise AssertionError("no exception, but %r" % (value,))


def key(queue, step=0):
    return PREFIX + queue + ("%s%d" % (SEP, step) if step else "")


def envelope(headers, body, queue="default", raw_body=None, **changes):
    """A message as a publisher would write it."""
    if raw_body is None:
        raw_body = base64.b64encode(json.dumps(body).encode()).decode()
    message = {
        "body": raw_body, "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
        "properties": {
            "correlation_id": headers.get("id"), "reply_to": str(uuid.uuid4()), "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue}, "priority": 0,
            "body_encoding": "base64", "delivery_tag": str(uuid.uuid4()),
        },
    }
    message["properties"].update(changes.pop("properties", {}))
    message.update(changes)
    return message


def inject(message, queue="default", step=0):
    """Puts a message, or whatever it is, into a queue."""
    db.lpush(key(queue, step), message if isinstance(message, (str, bytes)) else json.dumps(message))


def record(task_id):
    raw = db.get("celery-task-meta-" + task_id)
    return json.loads(raw) if raw else None


def inspect(**options):
    return app.control.inspect(destination=[NODE], timeout=5, **options)


def active_ids():
    return [t["id"] for t in (inspect().active() or {}).get(NODE, [])]


def started(*results, timeout=20):
    for r in results:
        eventually(timeout, "%s has started" % r.id, lambda: r.state in ("STARTED", "PROGRESS"))


def patiently(do):
    """What it returns, or nothing while Redis is not back for this client either."""
    try:
        return do()
    except (OSError, redis.exceptions.ConnectionError, celery.exceptions.TimeoutError, kombu.exceptions.OperationalError):
        return None


def ready(timeout=30):
    """Waits until the worker answers."""
    eventually(timeout, "the worker answers", lambda: patiently(lambda: app.control.ping(destination=[NODE], timeout=0.5)))


class Channel:
    """The records published for a task, in their order."""

    def __init__(self, task_id):
        self.records = []
        self._sub = db.pubsub()
        self._sub.subscribe("celery-task-meta-" + task_id)
        eventually(5, "the channel is open", lambda: self._sub.get_message(timeout=1))

    def states(self):
        while True:
            m = self._sub.get_message(ignore_subscribe_messages=True, timeout=0.01)
            if m is None:
                break
            self.records.append(json.loads(m["data"]))
        return [r["status"] for r in self.records]

    def close(self):
        self._sub.close()


class Events:
    """All events while it is open."""

    def __enter__(self):
        self.all = []
        before = db.execute_command("PUBSUB", "NUMPAT")
        self._connection = app.connection_for_read()
        self._receiver = app.events.Receiver(self._connection, handlers={"*": self._take})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        eventually(10, "events are received", lambda: db.execute_command("PUBSUB", "NUMPAT") > before)
        return self

    def _run(self):
        with contextlib.suppress(OSError):  # the connection is closed under it
            self._receiver.capture(limit=None, timeout=None, wakeup=False)

    def _take(self, event):
        self.all.append(dict(event, received=time.time()))

    def of(self, task_id):
        return [e["type"] for e in list(self.all) if e.get("uuid") == task_id and e["type"] != "task-sent"]

    def __exit__(self, *_):
        self._receiver.should_stop = True
        self._thread.join(5)
        self._connection.release()


@contextlib.contextmanager
def python_worker(*args, queues="default", name="py1@host1", log=subprocess.DEVNULL):
    """A real Celery worker beside the one under test."""
    p = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "simapp", "worker", "-n", name, "-Q", queues, "--without-gossip",
         "--loglevel", "WARNING", *(args or ("--pool", "solo", "--without-mingle"))],
        stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        eventually(30, name + " answers", lambda: app.control.ping(destination=[name], timeout=0.5))
        yield p
    finally:
        p.kill()
        p.wait()


def command(*args, timeout=30):
    """Runs the command line of Celery."""
    return subprocess.run([sys.executable, "-m", "celery", "-A", "simapp", *args],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)


def run(points):
    """Runs points one after another and reports each."""
    print(json.dumps({"plan": [p.__name__ for p in points]}), flush=True)
    for point in points:
        report, began = {"point": point.__name__}, time.monotonic()
        try:
            report["note"] = point()
        except Skip as e:
            report["skip"] = str(e)
        except BaseException:
            report["error"] = traceback.format_exc()
        report["seconds"] = round(time.monotonic() - began, 2)
        print(json.dumps(report), flush=True)


def main(points):
    """Runs the points that are named, or else all: functions of a module whose
    names begin as those of points do, in the order of their definition."""
    names = sys.argv[1:]
    chosen = [f for name, f in points.items() if re.match(r"(p\d\d|x)_", name)]
    if names:
        chosen = [f for f in chosen if any(f.__name__.startswith(n) for n in names)]
    run(chosen)
