"""Everything is killed while messages pass: point 26 and what goes beyond it. The
messages are written by hand, so that one whose fate is unknown can be sent again
with the same id, as a careful publisher does."""
import collections
import os
import random
import threading
import time
import uuid

import simapp
from world import *

COUNT = int(os.environ.get("CELERY_MESSAGES", "400"))
seed = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 30)))
dice = random.Random(seed)


class Load:
    """Publishes messages while they are dealt with. Half are jobs, half are
    answered at once; every eighth job has another one as its callback."""

    def __init__(self, count, pace=0.0):
        self.jobs, self.quick, self.linked, self.ids = [], [], [], []
        self._count, self._pace = count, pace
        self.failed = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def publishing(self):
        return self._thread.is_alive()

    def _run(self):
        try:
            for i in range(self._count):
                self._publish(i)
                if self._pace:
                    time.sleep(self._pace)
        except Exception as e:
            self.failed = e

    def _publish(self, i):
        id, embed = str(uuid.uuid4()), {}
        task = "simapp.noop" if i % 2 else "health_check"
        if i % 2 and i % 16 == 1:
            link = str(uuid.uuid4())
            embed = {"callbacks": [{"task": "simapp.other", "args": [], "kwargs": {}, "options": {"task_id": link},
                                    "subtask_type": None, "immutable": True}]}
            self.linked.append(link)
        message = envelope({"task": task, "id": id}, [[], {}, embed], queue="simulations", properties={"priority": dice.randrange(10)})
        retry(lambda: inject(message, "simulations", max(s for s in STEPS if s <= message["properties"]["priority"])))
        (self.jobs if i % 2 else self.quick).append(id)
        self.ids.append(id)

    def unanswered(self):
        ids = self.ids + self.linked
        return [i for i, raw in zip(ids, retry(lambda: db.mget(["celery-task-meta-" + i for i in ids])))
                if raw is None or json.loads(raw)["status"] != "SUCCESS"]

    def check(self, within):
        """Every message is answered, and what it asked for was done once."""
        if self.failed:
            raise self.failed
        deadline = time.monotonic() + within
        while self.unanswered():
            assert time.monotonic() < deadline, "seed %d: %d of %d are not answered, such as %r; jobs: %r; in redis: %r" % (
                seed, len(self.unanswered()), len(self.ids), record(self.unanswered()[0]), ask("jobs"), in_redis())
            time.sleep(0.2)
        done = ask("executions")
        for id in self.jobs + self.linked:
            equal(done.get(id), 1, "seed %d: programs started for %s" % (seed, id))
        eventually(10, "nothing is held", lambda: in_redis() == (0, 0, 0))


class Answers:
    """Counts the final records that are published, as long as nobody cuts us off."""

    def __enter__(self):
        self.count = collections.Counter()
        self._sub = db.pubsub()
        self._sub.psubscribe("celery-task-meta-*")
        eventually(5, "the channels are open", lambda: self._sub.get_message(timeout=1))
        self._open = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self):
        while self._open:
            m = self._sub.get_message(timeout=0.2)
            if m and m["type"] == "pmessage":
                r = json.loads(m["data"])
                if r["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
                    self.count[r["task_id"]] += 1

    def check(self, load):
        eventually(10, "all answers are heard", lambda: set(self.count) >= set(load.ids + load.linked))
        equal({self.count[i] for i in load.ids + load.linked}, {1}, "seed %d: answers to a task" % seed)

    def __exit__(self, *_):
        self._open = False
        self._thread.join(5)
        self._sub.close()


def in_redis():
    return (sum(db.llen(key("simulations", s)) for s in STEPS), db.hlen(UNACKED), db.zcard(UNACKED_INDEX))


def retry(do):
    deadline = time.monotonic() + 30
    while True:
        try:
            return do()
        except redis.exceptions.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def worker():
    ask("kill")
    time.sleep(dice.random() / 4)
    ask("start")


def connections():
    for _ in range(dice.randrange(1, 5)):
        retry(lambda: db.client_kill_filter(_type=dice.choice(["normal", "pubsub"]), skipme=True))
        time.sleep(dice.random() / 10)


def broker():
    ask("redis_kill")
    time.sleep(dice.random() / 2)
    ask("redis_restart")


def under_fire(load, harms, at_least):
    """Does harm until all are published and nearly all are answered."""
    done = {}
    while load.publishing() or len(load.unanswered()) > len(load.ids) / 20 or sum(done.values()) < at_least:
        time.sleep(dice.random())
        harm = dice.choice(harms)
        harm()
        done[harm.__name__] = done.get(harm.__name__, 0) + 1
        if sum(done.values()) > 60 + COUNT / 10:
            break
    return done


def p26_a_worker_killed_at_any_moment_loses_and_repeats_nothing():
    needs_nanoos()
    with Answers() as answers:
        load = Load(200, pace=0.01)
        done = under_fire(load, [worker], 6)
        load.check(60)
        answers.check(load)
    return "seed %d: %r" % (seed, done)


def x_everything_is_killed_at_random():
    needs_nanoos()
    load = Load(COUNT, pace=0.005)
    done = under_fire(load, [worker, connections, connections, broker], 10)
    load.check(60 + COUNT / 10)
    return "seed %d: %r" % (seed, done)


def x_a_redis_that_forgets_takes_only_what_it_still_had():
    needs_nanoos()
    known = set(ask("executions"))
    load = Load(200, pace=0.005)
    for _ in range(3):
        time.sleep(0.3 + dice.random() / 2)
        broker()
    eventually(30, "all is published", lambda: not load.publishing())
    simapp_answers()
    # What was moved is a job, and every job ends well, once; and no more than
    # what still was in Redis is gone.
    eventually(60, "every job has ended", lambda: set(ask("jobs")) <= {"COMPLETED"})
    done = {id: n for id, n in ask("executions").items() if id not in known}
    equal(set(done.values()), {1}, "programs per message")
    lost = [id for id in load.jobs if id not in done]
    assert len(lost) < len(load.jobs), "not one message was moved"
    eventually(10, "nothing is held", lambda: in_redis() == (0, 0, 0))
    return "seed %d: %d of %d messages were in Redis when it forgot" % (seed, len(lost), len(load.jobs))


def simapp_answers():
    """The worker serves the Redis that came back empty."""
    id = str(uuid.uuid4())
    eventually(20, "a new task is done", lambda: (
        retry(lambda: inject(envelope({"task": "simapp.noop", "id": id}, [[], {}, {}]))), time.sleep(0.2),
        (record(id) or {}).get("status") == "SUCCESS")[-1])


if __name__ == "__main__":
    ready()
    main(globals())
