"""Point 18: no gap between tasks."""
import time

import simapp
from world import *


def rate(task):
    task.delay().get(timeout=30)
    began = time.monotonic()
    results = [task.delay() for _ in range(200)]
    for r in results:
        r.get(timeout=120)
    return 200 / (time.monotonic() - began)


def p18_fifty_tasks_a_second_on_one_cpu():
    rates = {t.name: rate(t) for t in (simapp.health_check, simapp.noop)}
    note = ", ".join("%s: %.0f/s" % r for r in rates.items())
    assert rates["health_check"] > 50, note
    # Each noop is a process with a supervisor of its own: told, and measured by
    # "nanoos bench".
    return note


if __name__ == "__main__":
    ready()
    main(globals())
