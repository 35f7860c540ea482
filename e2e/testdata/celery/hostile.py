"""Messages that nobody should have sent: F28 and F29, and the attacks of T31."""
import base64
import json
import random
import time
import uuid

import receiving
import simapp
from simapp import app
from world import *

GOOD = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def quiet():
    """All that was sent has been dealt with."""
    eventually(60, "the queues are empty", lambda: not any(db.llen(key(q, s)) for q in ("default", "simulations") for s in STEPS)
               and db.hlen(UNACKED) == 0 and db.zcard(UNACKED_INDEX) == 0)


def x_F28_one_message_a_hundred_times_is_one_job():
    needs_nanoos()
    for body, headers in (([[], {"seconds": 0.5}, {}], {"task": "simapp.slow"}), (GOOD, {"task": "simapp.noop"})):
        id = str(uuid.uuid4())
        message = envelope(dict(headers, id=id), body)
        for i in range(100):
            # Some as they were sent, some as a sweep restores them, some in an
            # envelope of their own, in whatever list.
            copy = json.loads(json.dumps(message))
            if i % 3 == 1:
                copy["headers"]["redelivered"] = copy["properties"]["delivery_info"]["redelivered"] = True
            if i % 3 == 2:
                copy["properties"]["delivery_tag"] = str(uuid.uuid4())
            inject(copy, random.choice(["default", "simulations"]), random.choice(STEPS))
        app.AsyncResult(id).get(timeout=30)
        quiet()
        time.sleep(1)
        equal(ask("executions").get(id), 1, "programs started")
        equal(record(id)["status"], "SUCCESS")


def corpus():
    """Names and messages. A third value is the exception that the sender gets."""
    rows = [(n, m, i, want) for n, i, m, want in receiving.malformed()]

    def task(name, body=GOOD, want=None, raw_body=None, id=None, **headers):
        id = id or str(uuid.uuid4())
        message = envelope(dict({"task": "simapp.noop", "id": id}, **headers), body, raw_body=raw_body)
        rows.append((name, message, id, want))
        return message

    deep = "[" * 5000 + "]" * 5000
    task("deep arguments", raw_body=b64("[[%s], {}, null]" % deep), want="?")
    task("deep objects", raw_body=b64('[[], {"a": %s1%s}, null]' % ('{"a": ' * 3000, "}" * 3000)), want="?")
    task("a huge argument", [["x" * (9 << 20)], {}, None])
    rows.append(("a deep envelope", '{"body": %s}' % deep, None, None))
    rows.append(("a huge text", "x" * (9 << 20), None, None))
    rows.append(("an empty text", "", None, None))
    rows.append(("nothing", "null", None, None))
    rows.append(("bytes that are no text", b"\xff\xfe\x00\x01" * 50, None, None))
    rows.append(("a truncated message", json.dumps(task("good"))[:200], None, None))
    rows[-2] = ("good", rows[-2][1], rows[-2][2], None)
    task("NaN", raw_body=b64('[[NaN, Infinity, -Infinity], {}, null]'))
    task("lone surrogates", raw_body=b64(r'[["\ud800", "\udc00\ud800"], {}, null]'))
    task("big numbers", raw_body=b64("[[%s, 1e999, -1e-999], {}, null]" % ("9" * 500)))
    task("pickle in the arguments", [[base64.b64encode(b"\x80\x04cposix\nsystem\n").decode()], {}, None])
    task("an eta in a thousand years", eta="3025-01-01T00:00:00+00:00", want="?")
    task("a long name", want="?", task="x" * 300)
    task("a name of many scripts", want="?", task="задача\u202e\u0000;--")
    task("kwargs that are a text", [[], "x", None], want="InvalidTaskError")
    task("args that are a number", [7, {}, None], want="?")
    task("an embed that is a list", [[], {}, [1]], want="?")
    task("retries below zero", retries=-5)
    task("retries beyond all", retries=1 << 70)
    task("a time limit below zero", timelimit=[-1, -1])
    task("time limits that are texts", timelimit=["a", {}])
    task("a group that is a number", group=7, group_index="x")
    task("headers of every kind", shadow=7, root_id=[], parent_id={}, origin=None, lang=1.5, stamps=[[[]]], stamped_headers=7)
    task("callbacks that are none", [[], {}, {"callbacks": "x", "errbacks": 7, "chain": {}, "chord": [1]}])
    task("a callback into a key of Redis", [[], {}, {"callbacks": [{"task": "t", "args": [], "kwargs": {}, "options": {
        "queue": UNACKED, "task_id": "x"}, "subtask_type": None, "immutable": True}]}])
    task("a callback to an id that is a key", [[], {}, {"errbacks": [{"task": "simapp.noop", "args": [], "kwargs": {}, "options": {
        "task_id": "../../%s\r\nFLUSHALL" % ("x" * 600)}, "subtask_type": None, "immutable": False}]}])
    task("a compression that is unknown", compression="application/x-nobody", want="?")
    task("a compression that is a lie", compression="application/x-gzip", want="?")
    task("a bomb", raw_body=base64.b64encode(__import__("zlib").compress(b'[["' + b"x" * (64 << 20) + b'"], {}, null]')).decode(),
         compression="application/x-gzip", want="?")
    for bad in ("", " ", "a b", "x" * 300, "\r\nFLUSHALL", "\x00", "unacked", "*"):
        rows.append(("the id %r" % bad[:20], envelope({"task": "simapp.noop", "id": bad}, GOOD), None, None))
    for bad in (7, None, [], {}, True):
        rows.append(("an id that is %r" % (bad,), envelope({"task": "simapp.noop", "id": bad}, GOOD), None, None))
    for field, bad in (("delivery_tag", 7), ("delivery_tag", None), ("delivery_tag", ""), ("priority", "high"), ("priority", 1e300), ("priority", -1 << 70),
                       ("delivery_info", "x"), ("delivery_info", None), ("body_encoding", "rot13"), ("correlation_id", {})):
        rows.append(("%s is %.20r" % (field, bad), envelope({"task": "simapp.noop", "id": str(uuid.uuid4())}, GOOD, properties={field: bad}), None, None))
    tenant = envelope({"task": "simapp.noop", "id": str(uuid.uuid4()), "tenant": "admin", "role": "admin"}, GOOD)
    rows.append(("a tenant of its choice", tenant, tenant["headers"]["id"], None))
    return rows


def b64(text):
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def x_F29_hostile_messages_are_answered_or_buried():
    needs_nanoos()
    before = set(db.keys("*"))
    rows = corpus()
    slowest = (0.0, "")
    for name, message, id, want in rows:
        inject(message)
        began = time.monotonic()
        good = str(uuid.uuid4())
        inject(envelope({"task": "health_check", "id": good}, GOOD))
        try:
            app.AsyncResult(good).get(timeout=20)
        except Exception as e:
            raise AssertionError("after %s a good task is not answered: %r" % (name, e))
        slowest = max(slowest, (time.monotonic() - began, name))
        if want:
            eventually(10, "%s is answered" % name, lambda: app.AsyncResult(id).ready())
            error = app.AsyncResult(id).result
            assert isinstance(error, Exception), (name, error)
            if want != "?":
                equal(type(error).__name__, want, name)
    quiet()
    assert slowest[0] < 2, "after %s a good task took %.1f s" % (slowest[1], slowest[0])
    left = {k for k in set(db.keys("*")) - before if not k.startswith("celery-task-meta-")}
    strange = [k for k in left if k not in (DEAD, UNACKED, UNACKED_INDEX) and not k.startswith(PREFIX + "nanoos.")
               and not k.startswith(PREFIX + "_kombu.binding.")]
    equal(strange, [], "keys that it left")
    for raw in redis.Redis.from_url(simapp.broker).lrange(DEAD, 0, -1):  # as they came: some are no text
        entry = json.loads(raw.decode("utf-8", "replace"), strict=False)
        assert any(isinstance(v, str) and v for k, v in entry.items() if k == "reason"), sorted(entry)
    return "%d messages, %d of them buried; the slowest: %s" % (len(rows), db.llen(DEAD), slowest)


def x_F29_random_damage_ends_nothing():
    needs_nanoos()
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)
    good = json.dumps(envelope({"task": "simapp.noop", "id": str(uuid.uuid4()), "eta": None, "retries": 0, "timelimit": [None, None]}, GOOD))
    for _ in range(3000 if LONG else 300):
        raw = bytearray(good.encode())
        for _ in range(dice.randrange(1, 6)):
            kind, at = dice.randrange(3), dice.randrange(len(raw))
            if kind == 0:
                raw[at] = dice.randrange(256)
            elif kind == 1:
                del raw[at:at + dice.randrange(40)]
            else:
                raw[at:at] = dice.choice([b"null", b"{}", b"[]", b'"', b"\\", b"9" * 30, b"\x00", b"\xff"])
        inject(bytes(raw), dice.choice(["default", "simulations"]))
    began = time.monotonic()
    simapp.health_check.delay().get(timeout=30)
    quiet()
    ready(5)
    return "seed %d, %.1f s" % (seed, time.monotonic() - began)


def x_F29_forged_reply_keys_are_not_written():
    needs_nanoos()
    prefix = "/%s." % simapp.database
    db.set("precious", "value")
    for reply_to in ({"exchange": "reply.celery.pidbox", "routing_key": "precious"}, {"exchange": "", "routing_key": "default"},
                     {"exchange": "tasks", "routing_key": "task.default"}, {"exchange": "precious", "routing_key": "precious"}, "precious", 7, [], None, {}):
        for body in ({"method": "ping", "arguments": {}, "ticket": "t", "reply_to": reply_to},
                     {"method": ["ping"], "arguments": 7, "destination": "x", "ticket": {}, "reply_to": reply_to},
                     [reply_to], 7, None):
            db.publish(PREFIX + prefix + "celery.pidbox", json.dumps(envelope({"clock": "x", "expires": "y"}, body)))
    for raw in (b"", b"\xff", b"{", b"[" * 10000, b"null", b'{"body": 7}'):
        db.publish(PREFIX + prefix + "celery.pidbox", raw)
    ready(5)
    equal(db.get("precious"), "value")
    equal(db.llen(key("default")), 0)
    simapp.noop.delay().get(timeout=20)


if __name__ == "__main__":
    ready()
    main(globals())
