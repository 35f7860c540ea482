"""A Redis that asks for a password and TLS, and is full, frozen or in a bad mood.
The worker says so in its health, and goes on when it can."""
import time

import simapp
from simapp import app
from world import *


def healthy():
    return PYTHON or ask("health")["checks"]["celery"] == "ok"


def configure(name, value):
    equal(ask("redis", command=["CONFIG", "SET", name, value]), "OK")


def x_a_password_and_tls_are_no_hindrance():
    assert simapp.broker.startswith("rediss://:"), "this Redis is open"
    simapp.noop.delay().get(timeout=20)
    assert healthy(), "it is not healthy"


def x_results_wait_for_a_full_redis():
    needs_nanoos()
    running = [simapp.slow.delay(seconds=1) for _ in range(4)]
    started(*running)
    configure("maxmemory", "1")
    try:
        time.sleep(3)
        for r in running:
            equal(record(r.id)["status"], "STARTED")
        eventually(5, "the jobs have ended all the same", lambda: set(ask("jobs")) <= {"COMPLETED"})
    finally:
        configure("maxmemory", "0")
    for r in running:
        eventually(15, "it is answered", lambda: record(r.id)["status"] == "SUCCESS")
    eventually(15, "it is healthy", healthy)


def x_a_frozen_redis_is_waited_for():
    needs_nanoos()
    running = [simapp.slow.delay(seconds=1) for _ in range(4)]
    started(*running)
    ask("redis_freeze")
    time.sleep(3)
    began = time.monotonic()
    ask("health")
    assert time.monotonic() - began < 1, "its HTTP waits for Redis"
    time.sleep(3)
    ask("redis_thaw")
    for r in running:
        eventually(20, "it is answered", lambda: record(r.id)["status"] == "SUCCESS")
    ready(10)
    eventually(20, "it is healthy", healthy)


def x_a_wrong_password_is_told_and_outlived():
    needs_nanoos()
    configure("requirepass", "another")
    ask("redis", command=["CLIENT", "KILL", "TYPE", "normal"], password="another")
    ask("redis", command=["CLIENT", "KILL", "TYPE", "pubsub"], password="another")
    try:
        eventually(15, "its health says so", lambda: not healthy())
        assert "another" not in ask("log") and "s3cret" not in ask("log"), "the log tells a password"
        eventually(15, "the log says why", lambda: "password" in ask("log").lower())
    finally:
        ask("redis", command=["CONFIG", "SET", "requirepass", "s3cret"], password="another")
    eventually(20, "it is healthy", healthy)
    sent = eventually(20, "a task is sent", lambda: patiently(simapp.noop.delay))
    eventually(20, "and answered", lambda: (record(sent.id) or {}).get("status") == "SUCCESS")


if __name__ == "__main__":
    ready()
    main(globals())
