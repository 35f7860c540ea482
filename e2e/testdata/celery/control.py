"""Remote control: points 39 to 55 without those of order and of restarts."""
import json
import re
import time
import uuid

import simapp
from simapp import app
from world import *


def ask_node(method, arguments=None, timeout=5):
    """The reply of the worker under test."""
    reply = app.control.broadcast(method, arguments=arguments, destination=[NODE], reply=True, timeout=timeout)
    assert reply, "%s is not answered" % method
    equal(list(reply[0]), [NODE])
    return reply[0][NODE]


def p39_the_command_line_sees_the_node():
    for words in (["status"], ["inspect", "ping"], ["inspect", "ping", "-d", NODE]):
        began = time.monotonic()
        done = command(*words)
        equal(done.returncode, 0, done.stdout)
        assert NODE in done.stdout, done.stdout
    began = time.monotonic()
    equal(ask_node("ping"), {"ok": "pong"})
    assert time.monotonic() - began < 0.8, "a ping to one node waits for others"


def p40_every_inspection_has_its_shape():
    running = simapp.slow.delay(seconds=5)
    started(running)
    waiting = simapp.noop.apply_async(args=["x"], countdown=100)
    eventually(5, "it is scheduled", lambda: ask_node("scheduled"))
    revoked = str(uuid.uuid4())
    app.control.revoke(revoked)

    (task,) = [t for t in ask_node("active") if t["id"] == running.id]
    equal((task["name"], task["type"], task["args"], task["kwargs"]), ("simapp.slow", "simapp.slow", [], {"seconds": 5}))
    equal(task["hostname"], NODE)
    assert abs(task["time_start"] - time.time()) < 60 or PYTHON, task
    assert isinstance(task["acknowledged"], bool), task
    assert isinstance(task["worker_pid"], int), task
    equal(task["delivery_info"]["routing_key"], "default")
    (safe,) = [t for t in ask_node("active", {"safe": True}) if t["id"] == running.id]
    assert isinstance(safe["args"], (str, list)), safe

    (entry,) = [s for s in ask_node("scheduled") if s["request"]["id"] == waiting.id]
    equal(entry["priority"], 6)
    assert re.match(r"\d{4}-\d\d-\d\dT.*(\+00:00|Z)$", entry["eta"]), entry
    equal((entry["request"]["name"], entry["request"]["args"]), ("simapp.noop", ["x"]))
    assert isinstance(ask_node("reserved"), list)

    registered = ask_node("registered")
    equal(registered, sorted(registered))
    for name in ("run_dummy_job", "run_simulation_job", "update_job_status", "cancel_job", "health_check", "simapp.slow"):
        assert any(r.split(" ")[0] == name for r in registered), registered
    assert not any(r.startswith("celery.") for r in registered), registered

    queues = {q["name"]: q for q in ask_node("active_queues")}
    equal(sorted(queues), sorted(["default", "simulations", "high_priority", "io", "dft", "md", "ml"]))
    for name, q in queues.items():
        for field in ("exclusive", "durable", "routing_key", "no_ack", "alias", "queue_arguments", "binding_arguments", "auto_delete", "exchange"):
            assert field in q, (name, field)
    equal((queues["simulations"]["exchange"]["name"], queues["simulations"]["routing_key"]), ("simulations", "simulation.#"))

    eventually(5, "it is revoked", lambda: revoked in ask_node("revoked"))

    stats = ask_node("stats")
    for field in ("total", "pool", "broker"):
        assert isinstance(stats[field], dict), stats
    equal((stats["broker"]["transport"], stats["broker"]["port"]), ("redis", app.connection().info()["port"]))
    assert isinstance(stats["pid"], int) and isinstance(stats["clock"], str) and isinstance(stats["uptime"], int), stats
    assert stats["total"]["simapp.slow"] >= 1, stats
    equal(stats["pool"]["max-concurrency"], 4)
    assert isinstance(stats["prefetch_count"], int), stats
    assert isinstance(stats["rusage"], (dict, str)), stats

    assert isinstance(ask_node("conf", {"with_defaults": False}), dict)
    assert isinstance(ask_node("report")["ok"], str)
    assert isinstance(ask_node("clock")["clock"], int)
    found = ask_node("query_task", {"ids": [running.id, "nobody"]})
    equal(list(found), [running.id])
    equal(found[running.id][0], "active")
    equal(found[running.id][1]["id"], running.id)
    for alias in ("dump_active", "dump_reserved", "dump_schedule", "dump_revoked", "dump_tasks", "dump_conf"):
        assert not (isinstance(ask_node(alias), dict) and "error" in ask_node(alias)), alias
    app.control.revoke(waiting.id)
    running.get(timeout=20)


def p41_inspections_are_quick_while_all_slots_are_busy():
    busy = [simapp.slow.delay(seconds=4) for _ in range(4)]
    more = [simapp.noop.delay() for _ in range(20)]
    started(*busy)
    slowest = ("", 0.0)
    for method in ("active", "reserved", "scheduled", "registered", "active_queues", "revoked", "stats", "conf", "report", "clock", "ping"):
        best = min(timed(method) for _ in range(3))
        slowest = max(slowest, (method, best), key=lambda t: t[1])
    for r in busy + more:
        r.get(timeout=60)
    assert slowest[1] < 0.2, "%s took %.3f s" % slowest
    return "the slowest: %s %.0f ms" % (slowest[0], slowest[1] * 1000)


def timed(method):
    began = time.monotonic()
    ask_node(method)
    return time.monotonic() - began


def p43_terminate_ends_the_process_tree():
    with Events() as events:
        r = simapp.stubborn.delay(seconds=60)
        started(r)
        if not PYTHON:
            eventually(5, "it runs with its children", lambda: ask("processes", task=r.id) > 1)
        app.control.revoke(r.id, terminate=True, signal="SIGKILL")
        began = time.monotonic()
        if not PYTHON:
            eventually(10, "its processes are gone", lambda: not ask("processes", task=r.id))
        gone = time.monotonic() - began
        eventually(10, "it is revoked", lambda: r.state == "REVOKED")
        equal((type(r.result).__name__, r.result.args), ("TaskRevokedError", ("terminated",)))
        event = eventually(5, "task-revoked", lambda: [e for e in events.all if e["type"] == "task-revoked" and e["uuid"] == r.id])[0]
        equal((event["terminated"], event["expired"]), (True, False))
        assert event["signum"] in (9, "9"), event
        assert gone < 3, "%.1f s" % gone
    gentle = simapp.slow.delay(seconds=60)
    started(gentle)
    app.control.revoke(gentle.id, terminate=True)
    eventually(15, "it is revoked", lambda: gentle.state == "REVOKED")


def p44_many_are_revoked_at_once():
    ids = [str(uuid.uuid4()) for _ in range(3)]
    reply = app.control.revoke(ids, reply=True, destination=[NODE], timeout=5)
    text = reply[0][NODE]["ok"]
    assert all(i in text for i in ids), reply
    for i in ids:
        r = simapp.noop.apply_async(task_id=i)
        eventually(20, "it is revoked", lambda: r.state == "REVOKED")
    unknown = app.control.revoke(str(uuid.uuid4()), terminate=True, reply=True, destination=[NODE], timeout=5)
    assert "ok" in unknown[0][NODE], unknown


def p45_consumers_come_and_go():
    equal(app.control.add_consumer("extra_q", reply=True, destination=[NODE], timeout=5), [{NODE: {"ok": "add consumer extra_q"}}])
    assert "extra_q" in [q["name"] for q in ask_node("active_queues")]
    simapp.noop.apply_async(queue="extra_q").get(timeout=20)
    simapp.noop.apply_async(queue="extra_q", priority=9).get(timeout=20)
    reply = app.control.cancel_consumer("extra_q", reply=True, destination=[NODE], timeout=5)
    equal(reply, [{NODE: {"ok": "no longer consuming from extra_q"}}])
    assert "extra_q" not in [q["name"] for q in ask_node("active_queues")]
    time.sleep(1)
    r = simapp.noop.apply_async(queue="extra_q")
    time.sleep(1)
    equal((r.state, db.llen(key("extra_q"))), ("PENDING", 1))
    db.delete(key("extra_q"))
    done = command("control", "-d", NODE, "add_consumer", "another_q")
    equal(done.returncode, 0, done.stdout)
    simapp.noop.apply_async(queue="another_q").get(timeout=20)
    app.control.cancel_consumer("another_q", reply=True, destination=[NODE], timeout=5)


def p48_a_time_limit_holds_from_the_next_run_on():
    reply = app.control.time_limit("simapp.steps", soft=None if not PYTHON else 1, hard=2, reply=True, destination=[NODE], timeout=5)
    equal(reply, [{NODE: {"ok": "time limits set successfully"}}])
    # New clients send the limits of their own configuration, which win.
    id = str(uuid.uuid4())
    inject(envelope({"task": "simapp.steps", "id": id}, [[], {"steps": 1, "seconds": 30}, {}]))
    error = raises(app.AsyncResult(id), timeout=20)
    if not PYTHON:  # it says that they are set, and remembers those it began with
        equal(type(error).__name__, "TimeLimitExceeded")
    reply = app.control.time_limit("simapp.nobody", hard=2, reply=True, destination=[NODE], timeout=5)
    assert "error" in reply[0][NODE], reply


def p49_task_events_can_be_switched():
    with Events() as events:
        def of(task):
            r = task.delay()
            r.get(timeout=20)
            time.sleep(0.7)
            return events.of(r.id)

        reply = ask_node("enable_events")
        assert "enabled" in reply["ok"], reply
        assert of(simapp.noop), "no events while they are enabled"
        reply = ask_node("disable_events")
        if not PYTHON:
            equal(reply, {"ok": "task events disabled"})
            equal(ask_node("disable_events"), {"ok": "task events already disabled"})
            equal(of(simapp.noop), [])
            began = time.time()
            eventually(6, "a heartbeat", lambda: any(
                e["type"] == "worker-heartbeat" and e["hostname"] == NODE and e["received"] > began for e in events.all))
            equal(ask_node("enable_events"), {"ok": "task events enabled"})
        equal(of(simapp.noop)[:2], ["task-received", "task-started"])


def p50_an_unknown_method_is_answered():
    equal(ask_node("nosuch"), {"error": "KeyError('nosuch')"})
    assert "TypeError" in ask_node("rate_limit")["error"], ask_node("rate_limit")
    assert "error" in ask_node("autoscale", {"max": 4, "min": 2}) or "ok" in ask_node("autoscale", {"max": 4, "min": 2})
    assert "error" in ask_node("pool_restart", {"modules": None, "reload": False, "reloader": None})
    equal(ask_node("ping"), {"ok": "pong"})


def p51_others_are_not_answered_for():
    quick = {"reply": True, "timeout": 0.7}
    equal(app.control.broadcast("ping", destination=["other@host"], **quick), [])
    equal(app.control.broadcast("ping", pattern="java*", matcher="glob", **quick), [])
    equal(app.control.broadcast("ping", pattern="^java", matcher="pcre", **quick), [])
    for pattern, matcher in (("go*", "glob"), (r"^go\d@", "pcre")):
        equal(app.control.broadcast("ping", pattern=pattern, matcher=matcher, **quick), [{NODE: {"ok": "pong"}}])


def p53_clients_that_die_leave_no_replies():
    needs_nanoos()
    for _ in range(1000 if LONG else 300):
        ask_node("ping")
    binding = PREFIX + "_kombu.binding.reply.celery.pidbox"
    prefix = "" if simapp.options.get("fanout_prefix") is False else "/%s." % simapp.database
    ids = [str(uuid.uuid4()) for _ in range(100)]
    for oid in ids:
        db.sadd(binding, SEP.join([oid, "", oid + ".reply.celery.pidbox"]))
    for oid in ids:
        request = envelope({"clock": 1, "expires": time.time() + 10}, {
            "method": "stats", "arguments": {}, "destination": None, "pattern": None, "matcher": None, "ticket": str(uuid.uuid4()),
            "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": oid}},
            properties={"delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}})
        equal(db.publish(PREFIX + prefix + "celery.pidbox", json.dumps(request)) > 0, True, "somebody listens")
    eventually(10, "they are answered", lambda: len(db.keys("*.reply.celery.pidbox")) == 100 + 1)
    left = [k for k in db.keys("*.reply.celery.pidbox") if db.type(k) == "list"]
    equal(len(left), 100)
    for k in left:
        assert 0 < db.ttl(k) <= 60, (k, db.ttl(k))
    # One whose binding is gone gets nothing at all.
    forged = str(uuid.uuid4())
    request["body"] = envelope({}, {"method": "ping", "arguments": {}, "ticket": "t", "reply_to": {
        "exchange": "reply.celery.pidbox", "routing_key": forged}})["body"]
    db.publish(PREFIX + prefix + "celery.pidbox", json.dumps(request))
    equal(ask_node("ping"), {"ok": "pong"})
    assert not [k for k in db.keys("*") if forged in k]
    db.delete(*left, binding)


def p54_a_starting_worker_learns_what_is_revoked():
    id = str(uuid.uuid4())
    app.control.revoke(id)
    eventually(5, "it is listed", lambda: id in ask_node("revoked"))
    reply = ask_node("hello", {"from_node": "new@host", "revoked": {}})
    assert id in reply["revoked"], reply
    assert isinstance(reply["clock"], int), reply
    equal(ask_node("hello", {"from_node": NODE, "revoked": {}}), None)
    with python_worker("--pool", "solo", queues="mingled", name="new@host4"):
        listed = app.control.broadcast("revoked", destination=["new@host4"], reply=True, timeout=5)
        assert id in listed[0]["new@host4"], listed


def p55_an_election_disturbs_nobody():
    needs_nanoos()
    app.control.election(str(uuid.uuid4()), "topic", action=None)
    equal(ask_node("ping"), {"ok": "pong"})
    simapp.noop.delay().get(timeout=20)


if __name__ == "__main__":
    ready()
    main(globals())
