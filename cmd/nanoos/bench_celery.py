"""The Celery side of "nanoos bench celery": a program as users have them, and its
measurements. Everything is measured from here, by a Celery client, whoever works.

    bench_celery.py drain N | latency N      prints one JSON object
    celery -A bench_celery worker            the worker that nanoos is compared with
"""
import json
import os
import sys
import time
from datetime import datetime, timezone

import redis
from celery import Celery
from kombu import Queue

URL = os.environ["BENCH_REDIS"]
QUEUE = os.environ["BENCH_QUEUE"]

app = Celery("bench", broker=URL, backend=URL)
app.conf.update(
    task_queues=(Queue(QUEUE),), task_default_queue=QUEUE, task_serializer="json", accept_content=["json"],
    worker_prefetch_multiplier=1, task_acks_late=True, task_reject_on_worker_lost=True, result_expires=3600,
    worker_send_task_events=True, task_track_started=True, broker_connection_retry_on_startup=True,
)


@app.task(name="health_check")
def health_check():
    return {"status": "healthy", "service": "nano-os-worker"}


def drain(n):
    """n messages that appear at once; the rate, and the time between two ends."""
    r = redis.Redis.from_url(URL)
    ids = [f"{QUEUE}-{time.time_ns()}-{i}" for i in range(n)]
    keys = [f"celery-task-meta-{i}" for i in ids]
    with app.producer_pool.acquire(block=True) as producer:
        for i in ids:
            health_check.apply_async(task_id=i, producer=producer, queue=QUEUE + ".hold")
    began = time.time()
    r.rename(QUEUE + ".hold", QUEUE)
    while r.exists(QUEUE, "unacked") or r.exists(*keys) < n:
        if time.time() > began + 300:
            raise SystemExit("the tasks were not done within 300 s")
        time.sleep(0.02)
    ends = []
    for raw in r.mget(keys):
        meta = json.loads(raw)
        if meta["status"] != "SUCCESS" or meta["result"]["status"] != "healthy":
            raise SystemExit(f"a task ended as {meta}")
        # Naive times are UTC, whatever the version.
        ends.append(datetime.fromisoformat(meta["date_done"].split("+")[0]).replace(tzinfo=timezone.utc).timestamp())
    r.delete(*keys)
    ends.sort()
    gaps = sorted(1e3 * (b - a) for a, b in zip(ends, ends[1:]))
    return {"n": n, "value": n / (ends[-1] - began), "p50_ms": gaps[len(gaps) // 2], "max_ms": gaps[-1]}


def latency(n):
    """One task at a time, from the call to its result in the caller's hands."""
    took = []
    for _ in range(n):
        began = time.perf_counter()
        health_check.apply_async(queue=QUEUE).get(timeout=60)
        took.append(1e3 * (time.perf_counter() - began))
    took.sort()
    return {"n": n, "p50_ms": took[n // 2], "p99_ms": took[min(n - 1, n * 99 // 100)], "max_ms": took[-1]}


def ready(_):
    """Waits until a worker answers."""
    for _ in range(120):
        if app.control.ping(timeout=0.5):
            return {}
    raise SystemExit("no worker answered within a minute")


if __name__ == "__main__":
    print(json.dumps({"drain": drain, "latency": latency, "ready": ready}[sys.argv[1]](int(sys.argv[2]))))
