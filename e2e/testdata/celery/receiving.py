"""Receiving and running, and failures: points 1 to 22 without those of order and
of restarts."""
import base64
import datetime
import decimal
import json
import math
import time
import uuid
import zlib

import kombu

import simapp
from simapp import app
from world import *

versions = tuple(int(n) for n in kombu.__version__.split(".")[:2])
dummy = []


def x_a_dummy_job_is_on_its_way():
    dummy.append(simapp.run_dummy_job.delay(str(uuid.uuid4())))
    eventually(20, "the dummy has started", lambda: dummy[0].state in ("STARTED", "PROGRESS"))


def p02_a_running_task_is_started_and_says_where():
    r = simapp.slow.delay(seconds=1.5)
    eventually(20, "it has started", lambda: r.state == "STARTED")
    equal(r.info["hostname"], NODE)
    assert isinstance(r.info["pid"], int), r.info
    r.get(timeout=20)


def p03_progress_shows_and_does_not_wake_get():
    r = simapp.steps.delay(steps=6, seconds=0.6)
    seen = []

    def progress():
        kept = record(r.id) or {}
        if kept.get("status") == "PROGRESS" and kept["result"] not in seen:
            seen.append(kept["result"])
        return kept.get("status") == "SUCCESS"

    eventually(30, "it ends", progress)
    assert seen and all(isinstance(i, dict) for i in seen), seen
    r = simapp.steps.delay(steps=4, seconds=0.4)
    r.get(timeout=30)
    equal(r.state, "SUCCESS")


def p04_every_queue_and_every_priority_is_served():
    results = [simapp.noop.apply_async(queue=q) for q in ("default", "simulations", "high_priority", "io", "dft", "md", "ml")]
    results += [simapp.noop.apply_async(queue="simulations", priority=n) for n in range(21)]
    results.append(app.send_task("src.worker.tasks.cancel_job", args=[str(uuid.uuid4())]))
    for r in results[:-1]:
        r.get(timeout=60)
    error = raises(results[-1])
    equal(type(error).__name__, "NotRegistered" if PYTHON else "ValueError")


def p07_a_shadow_is_the_name_that_is_shown():
    r = simapp.slow.apply_async(kwargs={"seconds": 2}, shadow="shadowname")
    started(r)
    task = next(t for t in inspect().active()[NODE] if t["id"] == r.id)
    equal((task["name"], task["type"]), ("shadowname", "simapp.slow"))
    r.get(timeout=20)


def p08_a_compressed_message_runs():
    for compression in ("gzip", "bzip2"):
        simapp.noop.apply_async(args=["x" * 10000], compression=compression).get(timeout=20)


def p09_strange_numbers_and_texts_come_back_as_they_went():
    args = [float("nan"), float("inf"), -float("inf"), 12345678901234567890123, "Grüße, 世界 🜚", "\udc80", 1e400, [[]], {}]
    r = simapp.slow.apply_async(args=args, kwargs={"seconds": 2})
    started(r)
    task = next(t for t in inspect().active()[NODE] if t["id"] == r.id)
    got = task["args"]
    assert math.isnan(got[0]), got
    equal(list(got[1:]), args[1:])
    equal(task["kwargs"], {"seconds": 2})
    r.get(timeout=20)


def p10_typed_arguments_are_understood():
    """Old versions send texts instead."""
    job = uuid.uuid4()
    error = raises(simapp.run_simulation_job.delay(job))
    equal(type(error), ValueError)
    assert str(job) in str(error), error
    more = [b"\xff\x00"] if versions >= (5, 3) else []
    r = simapp.noop.delay(job, decimal.Decimal("1.5"), datetime.datetime.now(datetime.timezone.utc), datetime.date.today(), *more)
    r.get(timeout=20)
    error = raises(simapp.cancel_job.delay(str(job)))
    assert str(job) in str(error), error


def p11_a_message_of_protocol_1_runs():
    id = str(uuid.uuid4())
    inject(envelope({}, {
        "task": "simapp.noop", "id": id, "args": [], "kwargs": {}, "group": None, "group_index": None, "retries": 0, "eta": None,
        "expires": None, "utc": True, "callbacks": None, "errbacks": None, "timelimit": [None, None], "taskset": None, "chord": None}))
    app.AsyncResult(id).get(timeout=20)


def p12_a_minimal_message_runs():
    id = str(uuid.uuid4())
    inject(envelope({"task": "simapp.noop", "id": id}, [[], {}, None]))
    app.AsyncResult(id).get(timeout=20)
    id = "an id that-is-no/uuid:7".replace(" ", "_")
    inject(envelope({"task": "simapp.noop", "id": id}, [[], {}, {}]))
    app.AsyncResult(id).get(timeout=20)


def p14_an_expired_task_never_runs():
    r = simapp.noop.apply_async(expires=datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=60))
    eventually(20, "it is revoked", lambda: r.state == "REVOKED")
    assert "expired" in repr(r.result), repr(r.result)


def p15_an_ignored_result_is_never_stored():
    if PYTHON and versions < (5, 3):
        raise Skip("this version stores that it has started")
    r = simapp.noop.apply_async(ignore_result=True)
    with Events() as events:
        quiet = simapp.noop.apply_async(ignore_result=True)
        eventually(20, "it has run", lambda: "task-succeeded" in events.of(quiet.id))
    for id in (r.id, quiet.id):
        equal(record(id), None)


def p16_a_hard_time_limit_ends_the_process_tree():
    # A Python worker looks at the hard limit when the soft one has passed.
    for task in (simapp.stubborn, simapp.slow):
        r = task.apply_async(kwargs={"seconds": 60}, time_limit=1, **({"soft_time_limit": 0.5} if PYTHON else {}))
        error = raises(r)
        if not PYTHON:
            equal((type(error).__name__, error.args, r.state), ("TimeLimitExceeded", (1,), "FAILURE"))
            eventually(5, "nothing of it runs", lambda: not ask("processes", task=r.id))


def p17_a_soft_time_limit_ends_gracefully():
    r = simapp.slow.apply_async(kwargs={"seconds": 60}, soft_time_limit=1)
    error = raises(r)
    equal((type(error).__name__, r.state), ("SoftTimeLimitExceeded", "FAILURE"))


def p19_a_failure_has_its_class_words_and_traceback():
    r = simapp.fail.delay()
    error = raises(r)
    equal(r.state, "FAILURE")
    assert isinstance(error, Exception) and isinstance(error.args[0], str) and error.args[0], repr(error)
    assert isinstance(r.traceback, str) and r.traceback.startswith("Traceback (most recent call last):"), r.traceback
    assert record(r.id)["result"]["exc_type"], record(r.id)
    error = raises(simapp.run_simulation_job.delay(str(uuid.uuid4())))
    equal(type(error), ValueError)
    assert "not found" in str(error), error
    return "%s(%r)" % (type(record(r.id)["result"]["exc_type"]), error.args)


def x_wrong_arguments_are_a_type_error():
    for send in (lambda: app.send_task("health_check", args=[1, 2]), lambda: app.send_task("cancel_job"),
                 lambda: app.send_task("cancel_job", args=["a"], kwargs={"job_id": "b"}), lambda: app.send_task("simapp.slow")):
        equal(type(raises(send())), TypeError)


def p20_an_unknown_task_is_not_registered():
    r = app.send_task("simapp.nobody_knows_it")
    equal((type(raises(r)).__name__, r.state), ("NotRegistered", "FAILURE"))


def p21_a_retry_shows_and_then_succeeds_under_the_same_id():
    id = str(uuid.uuid4())
    channel = Channel(id)
    with Events() as events:
        r = simapp.flaky.apply_async(task_id=id)
        r.get(timeout=40)
        eventually(10, "the events are complete", lambda: "task-succeeded" in events.of(id))
        kinds = [k for k in events.of(id) if k in ("task-retried", "task-succeeded")]
        equal(kinds, ["task-retried", "task-succeeded"])
        equal(events.of(id)[:2], ["task-received", "task-started"])
    states = [s for s in channel.states() if s in ("RETRY", "SUCCESS")]
    equal(states, ["RETRY", "SUCCESS"])
    retry = next(r for r in channel.records if r["status"] == "RETRY")
    assert retry["result"]["exc_type"], retry
    channel.close()


def malformed():
    """Every row of the table of malformed messages: its name, the message, and
    the exception that a client must see, if it can see one."""
    def headers(id, **more):
        return dict({"task": "simapp.noop", "id": id}, **more)

    good = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    id = lambda: str(uuid.uuid4())
    rows = [("not JSON", None, "this is not JSON", None), ("JSON of another kind", None, "[1, 2, 3]", None), ("a number", None, "7", None)]
    m = envelope(headers(id()), good)
    del m["properties"]
    rows.append(("no properties", None, m, None))
    m = envelope(headers(id()), good)
    del m["properties"]["delivery_tag"]
    rows.append(("no delivery tag", None, m, None))
    i = id()
    rows.append(("bad base64", i, envelope(headers(i), good, raw_body="§§§ not base64"), "?"))
    i = id()
    rows.append(("two elements", i, envelope(headers(i), [[], {}]), "?"))
    rows.append(("no task", None, envelope({}, {"hello": "world"}), None))
    i = id()
    rows.append(("pickle", i, envelope(headers(i), None, raw_body=base64.b64encode(b"\x80\x04N.").decode(), **{
        "content-type": "application/x-python-serialize", "content-encoding": "binary"}), "ContentDisallowed"))
    i = id()
    rows.append(("unknown content type", i, envelope(headers(i), good, **{"content-type": "application/x-nobody"}), "ContentDisallowed"))
    i = id()
    rows.append(("a body that is not JSON", i, envelope(headers(i), None, raw_body=base64.b64encode(b"{[}").decode()), "DecodeError"))
    i = id()
    rows.append(("an eta that is no time", i, envelope(headers(i, eta="next tuesday"), good), "InvalidTaskError"))
    i = id()
    rows.append(("kwargs that are no object", i, envelope(headers(i), [[], [1], None]), "InvalidTaskError"))
    return rows


def p22_every_malformed_message_is_survived():
    needs_nanoos()
    for name, id, message, want in malformed():
        dead = db.llen(DEAD)
        inject(message)
        began = time.monotonic()
        simapp.noop.delay().get(timeout=20)
        took = time.monotonic() - began
        assert took < 2, "after %s a good task took %.1f s" % (name, took)
        if want:
            error = raises(app.AsyncResult(id), timeout=5)
            if want != "?":
                equal(type(error).__name__, want, name)
        eventually(5, name + " is a dead letter", lambda: db.llen(DEAD) == dead + 1)
    equal((db.hlen(UNACKED), db.zcard(UNACKED_INDEX)), (0, 0))


def p01_a_result_comes_back():
    equal(dummy[0].get(timeout=30)["status"], "success")
    equal(dummy[0].state, "SUCCESS")
    assert dummy[0].successful()
    equal(simapp.health_check.delay().get(timeout=10), {"status": "healthy", "service": "nano-os-worker"})
    equal(app.send_task("src.worker.tasks.health_check").get(timeout=10)["status"] if not PYTHON else "healthy", "healthy")


if __name__ == "__main__":
    ready()
    main(globals())
