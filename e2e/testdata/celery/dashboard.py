"""A real Flower: points 58 and 59."""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import simapp
from simapp import app
from world import *

server = {}


def call(path, method="GET", **data):
    """An answer of Flower: its status and text. What is nested goes as JSON."""
    body = None
    if any(isinstance(v, dict) for v in data.values()):
        body = json.dumps(data).encode()
    elif data or method == "POST":
        body = urllib.parse.urlencode(data).encode()
    request = urllib.request.Request(server["url"] + path, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def get(path):
    status, text = call(path)
    equal(status, 200, path)
    return json.loads(text)


def post(path, **data):
    status, text = call(path, "POST", **data)
    equal(status, 200, path + ": " + text)
    return json.loads(text) if text else None


def x_flower_starts():
    port = random.randint(20000, 29999)
    server["url"] = "http://127.0.0.1:%d" % port
    server["log"] = tempfile.TemporaryFile("w+")
    server["process"] = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "simapp", "flower", "--address=127.0.0.1", "--port=%d" % port],
        env=dict(os.environ, FLOWER_UNAUTHENTICATED_API="true"), stdout=server["log"], stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def up():
        if server["process"].poll() is not None:
            server["log"].seek(0)
            raise AssertionError("Flower has ended: " + server["log"].read())
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    eventually(30, "Flower listens", up)


def p58_flower_shows_the_worker_and_its_tasks():
    worker = urllib.parse.quote(NODE)
    eventually(30, "the worker is online", lambda: get("/api/workers?status=1").get(NODE) is True)
    eventually(20, "the worker is inspected", lambda: "stats" in get("/api/workers?refresh=1").get(NODE, {}))
    info = get("/api/workers?workername=" + worker)[NODE]
    assert "simapp.noop" in " ".join(info["registered"]), info["registered"]
    equal(sorted(q["name"] for q in info["active_queues"])[0], "default")
    status, page = call("/worker/" + worker)
    equal(status, 200)
    assert NODE in page and "simulations" in page, page[:2000]
    status, page = call("/workers")
    equal((status, NODE in page), (200, True))

    ok, bad = simapp.noop.delay(), simapp.fail.delay()
    ok.get(timeout=20)
    raises(bad)
    shown = lambda r: get("/api/tasks").get(r.id, {})
    done = eventually(10, "the success is shown", lambda: shown(ok).get("state") == "SUCCESS" and shown(ok))
    assert done["runtime"] is not None and done["worker"] == NODE and done["name"] == "simapp.noop", done
    failed = eventually(10, "the failure is shown", lambda: shown(bad).get("state") == "FAILURE" and shown(bad))
    assert failed["exception"] and failed["traceback"], failed
    for path in ("/tasks", "/task/" + ok.id, "/task/" + bad.id, "/broker"):
        equal(call(path)[0], 200, path)
    equal(get("/api/task/info/" + ok.id)["state"], "SUCCESS")
    equal(get("/api/task/result/" + ok.id)["state"], "SUCCESS")

    # What waits in a queue that nobody consumes is counted.
    for _ in range(3):
        db.lpush("simulations_later", "x")
    lengths = {q["name"]: q["messages"] for q in get("/api/queues/length")["active_queues"]}
    equal(lengths.get("simulations"), 0, str(lengths))
    db.delete("simulations_later")

    sent = post("/api/task/async-apply/simapp.slow", kwargs={"seconds": 0.1})
    app.AsyncResult(sent["task-id"]).get(timeout=20)


def p59_the_buttons_work():
    worker = urllib.parse.quote(NODE)
    base = "/api/worker/"
    for path, data in (
            ("pool/grow/", {"n": 1}), ("pool/shrink/", {"n": 1}),
            ("queue/add-consumer/", {"queue": "flowers"}), ("queue/cancel-consumer/", {"queue": "flowers"})):
        answer = post(base + path + worker, **data)
        assert "message" in answer and "fail" not in answer["message"].lower(), (path, answer)
    answer = post("/api/task/timeout/simapp.other", workername=NODE, soft=50, hard=60)
    assert "set" in answer["message"], answer
    answer = post("/api/task/rate-limit/simapp.other", workername=NODE, ratelimit="100/s")
    assert "success" in answer["message"], answer
    running = simapp.slow.delay(seconds=60)
    started(running)
    post("/api/task/revoke/" + running.id, terminate="true")
    eventually(15, "it is revoked", lambda: running.state == "REVOKED")
    eventually(10, "Flower shows it", lambda: get("/api/tasks").get(running.id, {}).get("state") == "REVOKED")
    waiting = simapp.noop.apply_async(countdown=3)
    post("/api/task/revoke/" + waiting.id)
    eventually(15, "it is revoked", lambda: waiting.state == "REVOKED")


def p59_flower_shuts_the_worker_down():
    ask("expect_end")
    answer = post("/api/worker/shutdown/" + urllib.parse.quote(NODE))
    assert "Shutting down" in answer["message"], answer
    equal(ask("exit", seconds=20), None, "exit")
    eventually(15, "the worker is offline", lambda: get("/api/workers?status=1").get(NODE) is False)
    ask("start")
    ready()
    eventually(20, "the worker is online again", lambda: get("/api/workers?status=1").get(NODE) is True)


def x_flower_ends():
    server["process"].send_signal(signal.SIGINT)
    try:
        server["process"].wait(10)
    except subprocess.TimeoutExpired:
        server["process"].kill()
        server["process"].wait()


if __name__ == "__main__":
    ready()
    main(globals())
