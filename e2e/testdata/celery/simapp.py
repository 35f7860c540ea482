"""A Celery application as people have them: NANO-OS's queues, routes and settings,
its tasks under their short names, and a few more that behave as tests need it.

The bodies of the tasks run in Python workers only; nanoos has its own.
"""
import json
import os
import time
import urllib.parse

from celery import Celery
from kombu import Exchange, Queue

options = json.loads(os.environ.get("CELERY_OPTIONS", "{}"))
broker = os.environ["CELERY_BROKER"]
database = urllib.parse.urlsplit(broker).path[1:]

app = Celery("simapp", broker=broker, backend=broker)

tasks = Exchange("tasks", type="direct")
simulations = Exchange("simulations", type="topic")

app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_serializer="json",
    timezone="UTC",
    enable_utc=True,
    task_queues=(
        Queue("default", tasks, routing_key="task.default", queue_arguments={"x-max-priority": 10}),
        Queue("simulations", simulations, routing_key="simulation.#", queue_arguments={"x-max-priority": 20}),
        Queue("high_priority", tasks, routing_key="task.high", queue_arguments={"x-max-priority": 20}),
        Queue("io", tasks, routing_key="task.io", queue_arguments={"x-max-priority": 10}),
        Queue("dft", tasks, routing_key="task.dft", queue_arguments={"x-max-priority": 20}),
        Queue("md", tasks, routing_key="task.md", queue_arguments={"x-max-priority": 20}),
        Queue("ml", tasks, routing_key="task.ml", queue_arguments={"x-max-priority": 20}),
    ),
    task_default_queue="default",
    task_default_exchange="tasks",
    task_default_routing_key="task.default",
    # The tasks are registered under their short names, so these never match.
    task_routes={
        "src.worker.tasks.run_simulation_job": {"queue": "simulations", "routing_key": "simulation.run"},
        "src.worker.tasks.cancel_job": {"queue": "high_priority", "routing_key": "task.high"},
    },
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_track_started=True,
    task_time_limit=3600,
    task_soft_time_limit=3300,
    result_expires=3600,
    worker_send_task_events=True,
    task_send_sent_event=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options=options,
)


def executed(task):
    """Writes down that a Python worker ran a task."""
    path = os.environ.get("CELERY_EXECUTED")
    if path:
        with open(path, "a") as f:
            f.write(task.request.id + "\n")


@app.task(name="run_dummy_job", bind=True, max_retries=3, default_retry_delay=60)
def run_dummy_job(self, job_id):
    for i, step in enumerate(("Initializing", "Processing", "Analyzing", "Finalizing")):
        self.update_state(state="PROGRESS", meta={"current_step": step, "progress": (i + 1) / 4})
        time.sleep(2.5)
    return {"job_id": job_id, "status": "success", "summary": {"status": "completed"}}


@app.task(name="run_simulation_job", bind=True, max_retries=3, default_retry_delay=60)
def run_simulation_job(self, job_id):
    raise ValueError("Job %s not found" % job_id)


@app.task(name="update_job_status", bind=True)
def update_job_status(self, job_id, status, **fields):
    raise ValueError("Job %s not found" % job_id)


@app.task(name="cancel_job", bind=True)
def cancel_job(self, job_id):
    raise ValueError("Job %s not found" % job_id)


@app.task(name="health_check")
def health_check():
    return {"status": "healthy", "service": "nano-os-worker"}


@app.task(name="simapp.noop", bind=True)
def noop(self, *args):
    executed(self)
    return "done"


@app.task(name="simapp.other", bind=True)
def other(self):
    executed(self)
    return "done"


@app.task(name="simapp.slow", bind=True)
def slow(self, *args, seconds):
    executed(self)
    time.sleep(seconds)
    return "done"


@app.task(name="simapp.steps", bind=True)
def steps(self, *, steps, seconds):
    for i in range(steps):
        self.update_state(state="PROGRESS", meta={"progress": (i + 1) / steps})
        time.sleep(seconds)
    return "done"


@app.task(name="simapp.fail")
def fail():
    raise RuntimeError("this simulation fails")


@app.task(name="simapp.flaky", bind=True, max_retries=3, default_retry_delay=1)
def flaky(self):
    if self.request.retries == 0:
        raise self.retry(exc=RuntimeError("transient"))
    return "done"


@app.task(name="simapp.stubborn", bind=True)
def stubborn(self, *, seconds):
    time.sleep(seconds)
    return "done"


@app.task(name="simapp.echo", bind=True)
def echo(self, *args, **kwargs):
    """Runs in Python only: tells what it was given."""
    executed(self)
    return {"args": list(args), "kwargs": kwargs, "parent": self.request.parent_id}
