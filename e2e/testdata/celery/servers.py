"""Two servers with one database: each is a node, and every task is answered once."""
import collections
import time

import losses
import simapp
from simapp import app
from world import *


def x_every_server_is_a_node():
    def nodes():
        return sorted(name for reply in app.control.ping(timeout=1) for name in reply)

    eventually(20, "both answer", lambda: nodes() == ["go1@host9", "go2@host9"])
    r = simapp.slow.delay(seconds=2)
    started(r)
    active = app.control.inspect(timeout=1).active()
    equal(sum(t["id"] == r.id for tasks in active.values() for t in tasks), 1, "nodes that list the task")
    r.get(timeout=20)


def x_a_broadcast_reaches_every_server():
    reply = app.control.rate_limit("simapp.other", "100/s", reply=True, timeout=2)
    equal(len(reply), 2, str(reply))
    r = simapp.stubborn.delay(seconds=60)
    started(r)
    app.control.revoke(r.id, terminate=True, signal="SIGKILL")
    eventually(15, "it is revoked", lambda: r.state == "REVOKED")


def x_events_of_a_task_come_once():
    with Events() as events:
        results = [simapp.noop.delay() for _ in range(40)]
        for r in results:
            r.get(timeout=30)
        eventually(10, "all events are there", lambda: all("task-succeeded" in events.of(r.id) for r in results))
        time.sleep(0.5)
        for r in results:
            equal(events.of(r.id), ["task-received", "task-started", "task-succeeded"])


def x_servers_are_killed_in_turn():
    def one():
        ask("kill")
        time.sleep(losses.dice.random())
        ask("start")
        ask("swap")

    with losses.Answers() as answers:
        load = losses.Load(200, pace=0.01)
        done = losses.under_fire(load, [one], 6)
        load.check(90)
        answers.check(load)
    return "seed %d: %r" % (losses.seed, done)


if __name__ == "__main__":
    eventually(30, "a server answers", lambda: app.control.ping(timeout=1))
    main(globals())
