"""Events: points 56 and 57. The worker lives in another time zone than we do."""
import signal
import subprocess
import sys
import tempfile
import time

from celery.utils.time import utcoffset

import simapp
from simapp import app
from world import *


def p56_events_are_dumped_with_their_fields():
    with tempfile.TemporaryFile("w+") as out:
        dump = subprocess.Popen([sys.executable, "-m", "celery", "-A", "simapp", "events", "--dump"],
                                stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            with Events() as events:
                def shown():
                    out.seek(0)
                    return out.read()

                eventually(20, "a heartbeat is dumped", lambda: "heartbeat" in shown())
                ok, bad, retried = simapp.noop.delay("α"), simapp.fail.delay(), simapp.flaky.delay()
                began = time.time()
                ok.get(timeout=20)
                raises(bad)
                retried.get(timeout=40)
                eventually(10, "the events are dumped", lambda: all(
                    "%s" % r.id in shown() for r in (ok, bad, retried)) and "succeeded" in shown() and "failed" in shown())
                beats = lambda: [e["timestamp"] for e in events.all if e["type"] == "worker-heartbeat" and e["hostname"] == NODE]
                eventually(10, "three heartbeats", lambda: len(beats()) >= 4)
                gaps = [b - a for a, b in zip(beats(), beats()[1:])]
                assert max(gaps) < 4 and 1 < sum(gaps) / len(gaps) < 3, gaps
                if not PYTHON:
                    ask("stop")
                    eventually(5, "worker-offline", lambda: any(e["type"] == "worker-offline" for e in events.all))
                    ask("start")
                    eventually(10, "worker-online", lambda: any(e["type"] == "worker-online" for e in events.all))
                    eventually(5, "they are dumped", lambda: "shutdown" in shown() and "started" in shown())
        finally:
            dump.send_signal(signal.SIGINT)
            dump.wait()
    check(events.all, ok, bad, retried, began)


def check(events, ok, bad, retried, began):
    mine = [e for e in events if e["hostname"] == NODE]
    for e in mine:
        for field in ("utcoffset", "pid", "clock", "timestamp", "type"):
            assert field in e, (field, e)
        if e["type"].startswith("worker-") and not PYTHON:  # its answers to "heartbeat" are short
            for field in ("freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys"):
                assert field in e, (field, e)
            equal(len(e["loadavg"]), 3)
    of = lambda r, kind: next(e for e in mine if e.get("uuid") == r.id and e["type"] == kind)
    received = of(ok, "task-received")
    equal((received["name"], received["args"], received["kwargs"]), ("simapp.noop", "('α',)", "{}"))
    for field in ("root_id", "parent_id", "retries", "eta", "expires"):
        assert field in received, (field, received)
    of(ok, "task-started")
    done = of(ok, "task-succeeded")
    assert isinstance(done["result"], str) and isinstance(done["runtime"], (int, float)), done
    failed = of(bad, "task-failed")
    assert isinstance(failed["exception"], str) and isinstance(failed["traceback"], str), failed
    again = of(retried, "task-retried")
    assert isinstance(again["exception"], str) and "traceback" in again, again
    kinds = [e["type"] for e in mine if e.get("uuid") == ok.id]
    equal(kinds, ["task-received", "task-started", "task-succeeded"])
    kinds = [e["type"] for e in mine if e.get("uuid") == bad.id]
    equal(kinds, ["task-received", "task-started", "task-failed"])


def p57_clocks_rise_and_times_are_right():
    with Events() as events:
        for _ in range(5):
            simapp.noop.delay().get(timeout=20)
        eventually(10, "heartbeats", lambda: sum(e["type"] == "worker-heartbeat" for e in events.all) >= 2)
    mine = [e for e in events.all if e["hostname"] == NODE]
    clocks = [e["clock"] for e in mine]
    if not PYTHON:
        equal(clocks, sorted(set(clocks)), "clocks")
        equal({e["utcoffset"] for e in mine} <= {-12, -13}, True, "utcoffset of Auckland")
    for e in mine:  # the receiver has moved it by the difference of the time zones
        at = e["timestamp"] + (e["utcoffset"] - utcoffset()) * 3600
        assert abs(at - e["received"]) < 1, e


if __name__ == "__main__":
    ready()
    main(globals())
