"""Redis is away: point 60."""
import time

import simapp
from simapp import app
from world import *


def p60_memory_does_not_grow_while_redis_is_away():
    for _ in range(30):
        simapp.noop.delay().get(timeout=20)
    # Work goes on meanwhile, so that there are events and results to keep.
    working = [simapp.steps.delay(steps=50 if not LONG else 550, seconds=0.1) for _ in range(4)]
    started(*working)
    before = ask("memory")
    ask("redis_kill")
    time.sleep(60 if LONG else 8)
    during = ask("memory")
    ask("redis_restart")
    eventually(10, "Redis is back for us", lambda: patiently(db.ping))
    with Events() as events:
        began = time.monotonic()
        eventually(10, "a heartbeat", lambda: any(e["type"] == "worker-heartbeat" and e["hostname"] == NODE for e in events.all))
        resumed = time.monotonic() - began
        for r in working if not PYTHON else []:  # a Python worker forgets what it ran
            eventually(60, "what ran meanwhile is answered", lambda: (record(r.id) or {}).get("status") == "SUCCESS")
        after = eventually(20, "a new task is sent", lambda: patiently(simapp.noop.delay))
        eventually(20, "and answered", lambda: (record(after.id) or {}).get("status") == "SUCCESS")
        eventually(10, "task events", lambda: "task-succeeded" in events.of(after.id))
    assert during - before < 8 * 1024, "from %d to %d KiB" % (before, during)
    return "%+d KiB; events again after %.1f s" % (during - before, resumed)


if __name__ == "__main__":
    ready()
    main(globals())
