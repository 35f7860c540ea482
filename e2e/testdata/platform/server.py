"""The platform's HTTP server: it writes rows, sends tasks and reads its rows.

The first generation sends a task and then writes QUEUED, the later one the other
way round.
"""
import sys
import uuid

import uvicorn
from fastapi import Body, FastAPI, HTTPException
from sqlalchemy import select, text

import worker
from tables import LATER, Job, Result, Session, Structure, Template, now

api = FastAPI()
TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


def add(kind, fields):
    with Session.begin() as session:
        row = kind(**{name: uuid.UUID(value) if name.endswith("_id") else value for name, value in fields.items()})
        session.add(row)
        session.flush()
        return {"id": str(row.id)}


def job(session, job_id):
    row = session.get(Job, job_id)
    if row is None:
        raise HTTPException(404, f"Job {job_id} not found")
    return row


@api.get("/health")
def health():
    return "ok"


@api.post("/structures")
def structure(fields: dict = Body()):
    return add(Structure, fields)


@api.post("/templates")
def template(fields: dict = Body()):
    return add(Template, fields)


@api.post("/simulations")
def simulation(fields: dict = Body()):
    return add(Job, fields)


@api.post("/simulations/{job_id}/submit")
def submit(job_id: uuid.UUID, dummy: bool = False):
    task = worker.run_dummy_job if dummy else worker.run_simulation_job
    with Session() as session:
        row = job(session, job_id)
        if row.status != "PENDING":
            raise HTTPException(400, f"Job is {row.status}")
        task_id = str(uuid.uuid4()) if LATER else task.delay(str(job_id)).id
        row.celery_task_id, row.status, row.submitted_at = task_id, "QUEUED", now()
        session.commit()
    if LATER:
        task.apply_async((str(job_id),), task_id=task_id)
    return {"job_id": str(job_id), "celery_task_id": task_id, "status": "QUEUED"}


@api.post("/simulations/{job_id}/cancel")
def cancel(job_id: uuid.UUID):
    with Session() as session:
        row = job(session, job_id)
        if row.status in TERMINAL:
            raise HTTPException(400, f"Job is {row.status}")
    return {"cancel_task_id": worker.cancel_job.delay(str(job_id)).id}


@api.post("/simulations/{job_id}/give-up")
def give_up(job_id: uuid.UUID):
    with Session.begin() as session:
        job(session, job_id).status = "CANCELLED"


@api.get("/simulations/{job_id}")
def read(job_id: uuid.UUID):
    with Session() as session:
        row = job(session, job_id)
        result = session.scalar(select(Result).where(Result.simulation_job_id == job_id))
        history = session.execute(text("SELECT status, progress, results, by_whom FROM status_history WHERE job_id = :id ORDER BY seq"), {"id": job_id})
        return {
            **{name: getattr(row, name) for name in ("status", "progress", "current_step", "error_message", "retry_count", "worker_id", "started_at", "finished_at")},
            "summary": result and result.summary, "artifacts": result and result.artifacts, "converged": result and result.convergence_reached,
            "history": [dict(h._mapping) for h in history],
        }


@api.get("/simulations/{job_id}/task-status")
def task_status(job_id: uuid.UUID):
    with Session() as session:
        task_id = job(session, job_id).celery_task_id
    return state(task_id)


@api.get("/tasks/{task_id}")
def state(task_id: str):
    result = worker.app.AsyncResult(task_id)
    value = result.result
    return {"state": result.state, "ready": result.ready(), "result": value if isinstance(value, dict) else repr(value), "traceback": result.traceback}


if __name__ == "__main__":
    host, port = sys.argv[1].split(":")
    uvicorn.run(api, host=host, port=int(port), log_level="warning")
