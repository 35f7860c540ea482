"""The order of starts and how many run at once, on one CPU: points 5, 6, 46, 47."""
import random
import time
import uuid

import simapp
from simapp import app
from world import *


def ends(results):
    """The numbers of tasks in the order in which they ended, which on one CPU is
    that in which they started."""
    for r in results.values():
        r.get(timeout=60)
    return sorted(results, key=lambda n: results[n].date_done)


def behind_a_slow_task(publish):
    blocker = simapp.slow.delay(seconds=5)
    started(blocker)
    results = publish()
    assert not blocker.ready(), "the blocker ended before all were published"
    return results


def p05_redis_order_is_by_step_and_first_in_first_out_inside():
    order = list(range(21)) * 2
    random.shuffle(order)
    queues = ["default", "simulations"]

    def publish():
        return {(i, n): simapp.noop.apply_async(queue=random.choice(queues), priority=n) for i, n in enumerate(order)}

    step = lambda n: min(n, 9) // 3
    got = ends(behind_a_slow_task(publish))
    equal([step(n) for _, n in got], sorted(step(n) for n in order), "steps")
    # One queue at a time is first in, first out inside a step.
    def one():
        return {(i, n): simapp.noop.apply_async(queue="default", priority=n) for i, n in enumerate(order)}

    equal(ends(behind_a_slow_task(one)), sorted(enumerate(order), key=lambda t: (step(t[1]), t[0])))


def p06_higher_is_sooner_by_the_exact_number():
    needs_nanoos()
    order = list(range(21))
    random.shuffle(order)
    got = ends(behind_a_slow_task(lambda: {n: simapp.noop.apply_async(
        queue=random.choice(["default", "simulations", "high_priority"]), priority=n) for n in order}))
    equal(got, list(range(20, -1, -1)))


def p46_the_pool_grows_and_shrinks():
    def at_once(want):
        tasks = [simapp.slow.delay(seconds=1.5) for _ in range(5)]
        most = 0
        while not all(t.ready() for t in tasks):
            # The programs count: the end of one is told after it has gone.
            most = max(most, sum(t.state == "STARTED" for t in tasks) if PYTHON else ask("programs"))
            time.sleep(0.05)
        equal(most, want, "tasks at once")

    def prefetch():
        return inspect().stats()[NODE]["prefetch_count"]

    before = prefetch()
    equal(app.control.pool_grow(2, reply=True, destination=[NODE]), [{NODE: {"ok": "pool will grow"}}])
    at_once(3)
    assert prefetch() > before, (before, prefetch())
    equal(app.control.pool_shrink(2, reply=True, destination=[NODE]), [{NODE: {"ok": "pool will shrink"}}])
    eventually(5, "prefetch is as before", lambda: prefetch() == before)
    r = [simapp.slow.delay(seconds=1) for _ in range(2)]
    began = time.monotonic()
    for x in r:
        x.get(timeout=20)
    assert time.monotonic() - began > 1.9, "two tasks ran at once after the shrinking"


def p47_a_rate_limit_throttles_one_task_alone():
    reply = app.control.rate_limit("simapp.noop", "1/s", reply=True, destination=[NODE])
    equal(reply, [{NODE: {"ok": "new rate limit set successfully"}}])
    began = time.monotonic()
    limited = [simapp.noop.delay() for _ in range(8)]
    time.sleep(0.3)
    free = [simapp.other.delay() for _ in range(5)]
    for r in free:
        r.get(timeout=20)
    left = sum(not r.ready() for r in limited)
    for r in limited:
        r.get(timeout=30)
    took = time.monotonic() - began
    assert took > 6, "8 tasks at 1/s took %.1f s" % took
    if not PYTHON:  # a Python worker's prefetch is full of them
        assert left, "the others waited for the limited ones"
    equal(app.control.rate_limit("simapp.noop", 0, reply=True, destination=[NODE]), [{NODE: {"ok": "rate limit disabled successfully"}}])
    equal(list(app.control.rate_limit("simapp.unknown", "1/s", reply=True, destination=[NODE])[0][NODE]), ["error"])
    assert "error" in app.control.rate_limit("simapp.noop", "often", reply=True, destination=[NODE])[0][NODE]


if __name__ == "__main__":
    ready()
    main(globals())
