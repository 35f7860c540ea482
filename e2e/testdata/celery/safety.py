"""Acknowledgement and crash safety: points 23 to 35 without those of restarts."""
import collections
import json
import subprocess
import sys
import time
import uuid

import simapp
from simapp import app
from world import *


def unacked():
    """Both at one moment."""
    pipe = db.pipeline(transaction=True)
    pipe.hlen(UNACKED)
    pipe.zcard(UNACKED_INDEX)
    return tuple(pipe.execute())


def p23_a_message_is_held_until_the_database_has_it():
    r = simapp.slow.delay(seconds=2)
    held = unacked()
    while r.state != "STARTED":
        held = unacked()
        equal(held[0], held[1], "unacked and its index")
        time.sleep(0.01)
    # Then the job is the worker's, and Redis need not know more of it.
    if PYTHON:
        equal(unacked(), (1, 1))
    else:
        eventually(2, "it is acknowledged", lambda: unacked() == (0, 0))
        assert ask("jobs").get("RUNNING"), ask("jobs")
    r.get(timeout=20)
    eventually(2, "nothing is held", lambda: unacked() == (0, 0))


def p25_a_client_with_a_short_visibility_timeout_causes_no_second_run():
    needs_nanoos()
    eager = type(app)("eager", broker=simapp.broker, backend=simapp.broker)
    eager.conf.broker_transport_options = dict(simapp.options, visibility_timeout=2)
    starts = ask("starts")
    with Events() as events:
        running = simapp.slow.delay(seconds=8)
        waiting = simapp.noop.apply_async(countdown=7)
        later = [simapp.slow.delay(seconds=3) for _ in range(6)]  # more than there are CPUs
        while not all(r.ready() for r in [running, waiting, *later]):
            eager.control.ping(timeout=0.5)
            check_ages()
        time.sleep(1)
        received = collections.Counter(e["uuid"] for e in events.all if e["type"] == "task-received")
    equal({received[r.id] for r in [running, waiting, *later]}, {1}, "times received")
    equal(ask("starts") - starts, 8, "programs started")
    eager.close()


def check_ages():
    now = float(db.time()[0])
    for tag, at in db.zrange(UNACKED_INDEX, 0, -1, withscores=True):
        assert now - at < 60, "%s is %.0f s old" % (tag, now - at)


def p24_what_is_held_is_never_old():
    # Redis forgets nothing meanwhile: more waits than the worker can start.
    results = [simapp.noop.apply_async(countdown=2 + i / 10) for i in range(20)]
    while not all(r.ready() for r in results):
        check_ages()
        time.sleep(0.05)


def p27_the_same_message_twice_is_executed_once():
    needs_nanoos()
    for task, body in (("simapp.noop", [[], {}, {}]), ("simapp.slow", [[], {"seconds": 1}, {}])):
        starts = ask("starts")
        id = str(uuid.uuid4())
        message = envelope({"task": task, "id": id}, body)
        for _ in range(3):
            inject(message)
        app.AsyncResult(id).get(timeout=20)
        inject(message)
        again = envelope({"task": task, "id": id}, body)  # the same task in another envelope
        inject(again, queue="simulations", step=STEPS[-1])
        eventually(10, "they are taken", lambda: not db.exists(key("default")) and unacked() == (0, 0))
        simapp.noop.delay().get(timeout=20)
        equal(ask("starts") - starts, 2, "programs started, the last one included")
        equal(app.AsyncResult(id).state, "SUCCESS")


def p33_a_success_is_not_overwritten():
    needs_nanoos()
    r = simapp.noop.delay()
    r.get(timeout=20)
    before = record(r.id)
    # The same id again, with another task that fails.
    inject(envelope({"task": "simapp.fail", "id": r.id}, [[], {}, {}]))
    inject(envelope({"task": "simapp.no_such_task", "id": r.id}, [[], {}, {}]))
    simapp.noop.delay().get(timeout=20)
    eventually(10, "they are taken", lambda: not db.exists(key("default")) and unacked() == (0, 0))
    equal(record(r.id), before)


def p29_what_a_dead_python_worker_held_comes_back_to_its_step():
    needs_nanoos()
    seen = []
    with python_worker(queues="strange,default", name="victim@host2") as victim:
        # This queue is nobody else's: what comes back to it stays there.
        ids = [simapp.slow.apply_async(kwargs={"seconds": 100}, queue="strange", priority=p).id for p in (5,)]
        for id in ids:
            eventually(20, "the victim runs it", lambda: app.AsyncResult(id).state == "STARTED")
        victim.kill()
        victim.wait()
    step = max(s for s in STEPS if s <= 5)
    # As if the time had passed since its death.
    (tag,) = [t for t, raw in db.hgetall(UNACKED).items() if ids[0] in raw]
    db.zadd(UNACKED_INDEX, {tag: float(db.time()[0]) - 4000})
    back = eventually(45, "it comes back", lambda: db.lrange(key("strange", step), 0, -1))
    message = json.loads(back[0])
    equal(message["headers"]["id"], ids[0])
    equal(message["headers"].get("redelivered"), True)
    equal(message["properties"]["delivery_info"].get("redelivered"), True)
    equal(message["properties"]["delivery_tag"], tag)
    equal(unacked(), (0, 0))
    db.delete(key("strange", step))


def p31_a_python_worker_may_share_a_queue():
    needs_nanoos()
    starts = ask("starts")
    before = executed_by_python()
    with python_worker("--pool", "prefork", "-c", "2", "--without-mingle"):
        results = [simapp.noop.delay() for _ in range(100)]
        for r in results:
            r.get(timeout=60)
        python = executed_by_python() - before
    mine = ask("starts") - starts
    equal(python + mine, 100, "executions")
    return "%d by Python, %d by nanoos" % (python, mine)


def executed_by_python():
    try:
        with open(os.environ["CELERY_EXECUTED"]) as f:
            return len(f.readlines())
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    ready()
    main(globals())
