"""What survives the end of the worker and of connections: points 13, 28, 30, 42, 52."""
import contextlib
import datetime
import time
import uuid

import simapp
from simapp import app
from world import *


def restart():
    ask("kill")
    ask("start")
    ready()


def p13_an_eta_is_kept_and_survives_a_restart():
    r = simapp.noop.apply_async(countdown=6)
    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=6)
    kept = simapp.noop.apply_async(countdown=5)

    def scheduled():
        return [s for s in (inspect().scheduled() or {}).get(NODE, []) if s["request"]["id"] == r.id]

    entry = eventually(5, "it is scheduled", scheduled)[0]
    shown = datetime.datetime.fromisoformat(entry["eta"].replace("Z", "+00:00"))
    assert abs((shown - eta).total_seconds()) < 1, entry
    if not PYTHON:
        restart()
        assert scheduled(), "the restart forgot it"
    while datetime.datetime.now(datetime.timezone.utc) < eta - datetime.timedelta(seconds=0.3):
        assert not r.ready(), "it ran before its time"
        time.sleep(0.05)
    r.get(timeout=30)
    done = r.date_done.replace(tzinfo=datetime.timezone.utc)
    late = (done - eta).total_seconds()
    assert -0.1 < late < 1.5, "%.2f s after its time" % late
    kept.get(timeout=30)


def p42_a_revoked_task_never_runs():
    needs_nanoos()
    id, other = str(uuid.uuid4()), str(uuid.uuid4())
    app.control.revoke(id)
    eventually(5, "it is listed", lambda: id in inspect().revoked()[NODE])
    equal(command("control", "revoke", other).returncode in (0, 69), True)
    restart()
    listed = inspect().revoked()[NODE]
    assert id in listed and other in listed, listed
    for i in (id, other):
        r = simapp.noop.apply_async(task_id=i)
        eventually(20, "it is revoked", lambda: r.state == "REVOKED")
        assert "revoked" in repr(r.result), repr(r.result)
    waiting = simapp.noop.apply_async(countdown=3)
    eventually(5, "it is scheduled", lambda: inspect().scheduled()[NODE])
    app.control.revoke(waiting.id)
    eventually(20, "it is revoked", lambda: waiting.state == "REVOKED")


def p28_sigterm_loses_nothing():
    before = ask("starts")
    running = simapp.slow.delay(seconds=4)
    started(running)
    waiting = [simapp.noop.apply_async(countdown=6, queue="simulations", priority=5) for _ in range(3)]
    more = [simapp.slow.delay(seconds=1) for _ in range(8)]
    eventually(10, "they are scheduled", lambda: len(inspect().scheduled()[NODE]) == 3)
    took = ask("stop")
    assert took < 10, "%.1f s" % took
    equal(db.hlen(UNACKED), db.zcard(UNACKED_INDEX), "unacked and its index")
    ask("start")
    ready()
    for r in [running, *waiting, *more]:
        r.get(timeout=60)
    if not PYTHON:
        equal(ask("starts") - before, 12, "programs started")


def p30_lost_connections_and_a_lost_redis_come_back():
    for kill in (lambda: db.client_kill_filter(_type="normal", skipme=True), lambda: db.client_kill_filter(_type="pubsub", skipme=True)):
        kill()
        began = time.monotonic()
        eventually(5, "a task is done", a_task_is_done)
        ready(5)
        assert time.monotonic() - began < 5.5, "%.1f s" % (time.monotonic() - began)
    running = simapp.slow.delay(seconds=3)
    started(running)
    ask("redis_kill")
    time.sleep(1)
    ask("redis_restart")
    began = time.monotonic()
    eventually(20, "a task is done", a_task_is_done)
    ready(5)
    assert time.monotonic() - began < 10, "%.1f s" % (time.monotonic() - began)
    if not PYTHON:  # a Python worker forgets what it ran
        eventually(20, "the running task is answered", lambda: (record(running.id) or {}).get("status") == "SUCCESS")


def a_task_is_done():
    """Looks at the record: old clients do not subscribe again."""
    sent = patiently(simapp.noop.delay)
    with contextlib.suppress(AssertionError):
        return sent and eventually(2, "it is done", lambda: (record(sent.id) or {}).get("status") == "SUCCESS")


def p52_shutdown_ends_the_worker_in_order():
    with Events() as events:
        ask("expect_end")
        done = command("control", "shutdown", "-d", NODE)
        assert done.returncode in (0, 69), done.stdout
        equal(ask("exit", seconds=20), None, "exit")
        eventually(5, "worker-offline", lambda: any(e["type"] == "worker-offline" and e["hostname"] == NODE for e in events.all))
    ask("start")
    ready()
    simapp.noop.delay().get(timeout=20)


if __name__ == "__main__":
    ready()
    main(globals())
