"""The platform's Celery application. Its tasks have their short names while the
routes speak of long ones, so that everything goes to the queue "default"."""
import os

from celery import Celery
from kombu import Exchange, Queue

app = Celery("nano-os", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
tasks, simulations = Exchange("tasks", type="direct"), Exchange("simulations", type="topic")
app.conf.update(
    task_serializer="json", accept_content=["json"], result_serializer="json", timezone="UTC", enable_utc=True,
    task_queues=(
        Queue("default", tasks, routing_key="task.default", queue_arguments={"x-max-priority": 10}),
        Queue("simulations", simulations, routing_key="simulation.#", queue_arguments={"x-max-priority": 20}),
        Queue("high_priority", tasks, routing_key="task.high", queue_arguments={"x-max-priority": 20}),
    ),
    task_default_queue="default", task_default_exchange="tasks", task_default_routing_key="task.default",
    task_routes={
        "src.worker.tasks.run_simulation_job": {"queue": "simulations", "routing_key": "simulation.run"},
        "src.worker.tasks.cancel_job": {"queue": "high_priority", "routing_key": "task.high"},
    },
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1,
    task_time_limit=3600, task_soft_time_limit=3300, result_expires=3600,
    worker_send_task_events=True, task_send_sent_event=True, task_track_started=True,
)


def elsewhere(*args, **kwargs):
    raise NotImplementedError("another program works")


run_simulation_job = app.task(name="run_simulation_job", max_retries=3, default_retry_delay=60)(elsewhere)
run_dummy_job = app.task(name="run_dummy_job", max_retries=3, default_retry_delay=60)(elsewhere)
cancel_job = app.task(name="cancel_job")(elsewhere)
