"""Results and canvases: points 32 to 38 without 33. What a foreign worker passes on
is shown by a Python worker with a queue of its own."""
import time
import uuid

from celery import chain, chord, group
from celery.result import AsyncResult

import simapp
from simapp import app
from world import *

noop, fail, steps = simapp.noop, simapp.fail, simapp.steps
worker = []


def echo(*args, **options):
    """A task of the Python worker that tells what it was given."""
    return simapp.echo.s(*args).set(queue="py", **options)


def x_a_python_worker_has_a_queue_of_its_own():
    context = python_worker(queues="py", name="echo@host3")
    context.__enter__()
    worker.append(context)


def ttl(id):
    return db.ttl("celery-task-meta-" + id)


def p32_every_state_has_the_time_to_live():
    r = steps.delay(steps=5, seconds=0.5)
    seen = set()
    while not r.ready():
        state, left = r.state, ttl(r.id)
        if state != "PENDING":
            assert 3590 <= left <= 3600, (state, left)
            seen.add(state)
        time.sleep(0.02)
    assert 3590 <= ttl(r.id) <= 3600, ttl(r.id)
    assert seen & {"STARTED", "PROGRESS"}, seen
    failed = fail.delay()
    raises(failed)
    assert 3590 <= ttl(failed.id) <= 3600, ttl(failed.id)


def p34_every_state_is_published():
    id = str(uuid.uuid4())
    channel = Channel(id)
    steps.apply_async(kwargs={"steps": 6, "seconds": 0.5}, task_id=id).get(timeout=20)
    states = channel.states()
    equal((states[0], states[-1]), ("STARTED", "SUCCESS"), str(states))
    assert "PROGRESS" in states, states
    equal(channel.records[-1], record(id))
    for r in channel.records:
        equal(r["task_id"], id)
    channel.close()


def p35_forget_forgets():
    r = noop.delay()
    r.get(timeout=20)
    r.forget()
    equal(AsyncResult(r.id, app=app).state, "PENDING")


def p36_a_chain_of_three_is_a_tree_of_results():
    last = chain(noop.s(), noop.s(), echo("end")).apply_async()
    value = last.get(timeout=30)
    middle = last.parent
    first = middle.parent
    equal(value["args"], [middle.get(), "end"])
    equal(value["parent"], middle.id)
    equal([c.id for c in first.children], [middle.id])
    equal([c.id for c in middle.children], [last.id])
    equal([r.id for r, _ in first.collect()], [first.id, middle.id, last.id])
    equal(record(middle.id)["parent_id"], first.id)
    # An immutable link of a chain takes nothing over.
    value = chain(noop.s(), echo("alone").set(immutable=True)).apply_async().get(timeout=30)
    equal(value["args"], ["alone"])


def x_a_broken_chain_fails_to_its_end():
    last = chain(noop.s(), fail.s().set(immutable=True), noop.s(), noop.s()).apply_async()
    error = raises(last, timeout=30)
    failed = last.parent.parent
    for r in (failed, last.parent, last):
        eventually(10, "it has failed", lambda: r.state == "FAILURE")
    equal((type(error).__name__, error.args), (type(failed.result).__name__, failed.result.args))


def p37_groups_and_chords_complete():
    done = group(noop.s() for _ in range(5)).apply_async()
    equal(len(done.get(timeout=30)), 5)
    assert done.successful()
    result = chord([noop.s() for _ in range(4)] + [simapp.slow.s(seconds=0.5)])(echo("body"))
    value = result.get(timeout=30)
    equal((len(value["args"][0]), value["args"][1]), (5, "body"))
    mixed = chord([noop.s(), echo("from python")])(echo("body")).get(timeout=30)
    equal(mixed["args"][0][1]["args"], ["from python"])
    # A body that we run.
    chord([noop.s(), noop.s()])(noop.s()).get(timeout=30)
    broken = chord([noop.s(), fail.s(), noop.s()])(noop.s())
    eventually(30, "the body of the broken chord fails", lambda: broken.state == "FAILURE")
    equal(type(broken.result).__name__, "ChordError")
    assert "Dependency" in str(broken.result), broken.result
    for leftover in db.keys("celery-taskset-meta-*"):
        assert db.ttl(leftover) > 0, leftover


def p38_links_get_the_result_and_error_links_the_id():
    linked, errored = str(uuid.uuid4()), str(uuid.uuid4())
    r = noop.apply_async(link=echo("linked", task_id=linked))
    value = app.AsyncResult(linked).get(timeout=30)
    equal(value["args"], [r.get(), "linked"])
    equal([c.id for c in r.children], [linked])
    for failing in (lambda: fail.apply_async(link_error=echo("why", task_id=errored)),
                    lambda: app.send_task("simapp.nobody", link_error=echo("why", task_id=errored))):
        if PYTHON and linked is None:
            break  # it forgets the error links of tasks that it does not know
        failed = failing()
        raises(failed)
        value = app.AsyncResult(errored).get(timeout=30)
        equal(value["args"][0], failed.id)
        linked, errored = None, str(uuid.uuid4())


def x_a_linked_task_is_ours_and_delayed():
    linked = str(uuid.uuid4())
    began = time.monotonic()
    noop.apply_async(link=simapp.other.si().set(task_id=linked, countdown=2, queue="simulations", priority=3))
    app.AsyncResult(linked).get(timeout=30)
    assert time.monotonic() - began > 1.9


def x_children_of_a_task_that_comes_again_are_made_once():
    needs_nanoos()
    linked = str(uuid.uuid4())
    id = str(uuid.uuid4())
    link = dict(echo("linked", task_id=linked))
    message = envelope({"task": "simapp.noop", "id": id}, [[], {}, {"callbacks": [link], "errbacks": None, "chain": None, "chord": None}])
    ran = lambda: open(os.environ["CELERY_EXECUTED"]).read().split().count(linked)
    inject(message)
    inject(message)
    app.AsyncResult(linked).get(timeout=20)
    inject(message)
    simapp.echo.apply_async(queue="py").get(timeout=20)
    time.sleep(0.5)
    equal(ran(), 1, "times that the callback ran")


def x_the_python_worker_ends():
    worker.pop().__exit__(None, None, None)


if __name__ == "__main__":
    ready()
    main(globals())
