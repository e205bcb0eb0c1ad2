"""Delivery of the machine's messages, to product and model: at once, late, twice, or out of order."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from operator import attrgetter
from time import monotonic
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from proofs.model import frames, links, maintenance, orders, rounds, sweeps
from proofs.model.clock import TICK_S
from proofs.model.machine.actions import action
from proofs.model.machine.crawlers import PICK
from proofs.model.machine.invariants import check
from proofs.model.machine.product import SystemUnderTest
from proofs.model.model import Message, Model
from proofs.model.reached import Reached
from proofs.model.state import Account, Connection, Job

HANDLERS = {
    "connections.register": frames.register,
    "connections.attach": links.attach,
    "connections.lost": links.lose,
    "connections.heartbeat": frames.apply_heartbeats,
    "connections.disconnect": frames.disconnect,
    "connections.expire_dead": sweeps.sweep,
    "crawler.frames": frames.apply_message,
    "credentials.refresh": orders.refresh,
    "credentials.renewed": orders.renewed,
    "failures.log": orders.log_failures,
    "jobs.assign": rounds.check_round,
    "jobs.cancel": orders.cancel,
    "jobs.enqueue": orders.enqueue,
    "jobs.pause": orders.pause,
    "jobs.prioritize": orders.prioritize,
    "jobs.resume": orders.resume,
    "jobs.retry": orders.retry,
    "jobs.submit": orders.submit,
    "upkeep.clean_up": maintenance.clean_up,
    "upkeep.reconcile": maintenance.reconcile,
}
"""The model's handler of each message."""

ACCOUNTS = ("ann", "bob")

_OF_CRAWLERS = ("crawler.", "connections.", "failures.log")
"""Tasks of the queue `crawler`."""

REMEMBERED = 20
"""How many of the last messages may come again."""


class DeliveryMachine(RuleBasedStateMachine):
    """One run of the product, from an empty database, compared with the model after each step."""

    def __init__(self, system: SystemUnderTest, reached: Counter[Reached]) -> None:
        super().__init__()
        self.system = system
        self.model = Model(reached, last_sweep=0.0, accounts={id_: Account(id_) for id_ in ACCOUNTS})
        self.sent: list[Message] = []
        self.delayed: list[Message] = []
        self.is_next_late = False
        self.is_next_misplaced = False
        self.count = 0
        self.began = monotonic()
        self.focus: Job | None = None
        system.empty(list(ACCOUNTS))

    def send(self, task: str, *, judged_as_of: float | None = None, **payload: Any) -> None:
        """Send a message, which is delivered at once unless it is to be late."""
        message = Message(task, payload, f"message-{self.number()}", judged_as_of)
        if self.is_next_misplaced and judged_as_of is None:
            self.is_next_misplaced = False
            self.deliver(replace(message, queue="dispatch" if task.startswith(_OF_CRAWLERS) else "crawler"))
        if self.is_next_late:
            self.is_next_late = False
            self.delayed.append(message)
        else:
            self.deliver(message)

    def deliver(self, message: Message) -> None:
        """Deliver a message to product and model, and compare them."""
        self.sent = [*self.sent, message][-REMEMBERED:]
        self.model.step()
        self.system.deliver(message)
        seen = self.system.read_state()
        if message.queue:
            self.model.refuse(message, "wrong_queue")
            self.model.reach(Reached.WRONG_QUEUE)
        else:
            self.model.reach(Reached.RIGHT_QUEUE, (message.id, "wrong_queue") in self.model.refused)
            HANDLERS[message.task](self.model, message, seen)
        check(self.model, seen, monotonic() - self.began)

    def compare(self) -> None:
        """Compare product and model after a change that was not a message."""
        self.model.step()
        check(self.model, self.system.read_state(), monotonic() - self.began)

    def age(self, ticks: int, *, swept: bool) -> None:
        """Let time pass, also for messages that were sent; *swept*: sweeps ran meanwhile, and found nothing."""
        self.model.pass_time(ticks, swept=swept)
        self.system.age(ticks, swept=swept)
        for message in {*self.sent, *self.delayed}:
            if "as_of" in message.payload:
                message.payload["as_of"] -= timedelta(seconds=ticks * TICK_S)
        self.compare()

    def number(self) -> int:
        """Return a number that is unique in this run."""
        self.count += 1
        return self.count

    def job(self, pick: int, like: Callable[[Job], object] = bool) -> Job:
        """Return a job: every other time the one in focus, else mostly one for which *like* is true."""
        jobs = list(self.model.jobs.values())
        if pick % 2 and self.focus in jobs:
            return self.focus
        some = [job for job in jobs if like(job)] if pick % 8 else jobs
        self.focus = (some or jobs)[pick // 2 % len(some or jobs)]
        return self.focus

    def connection(
        self, pick: int, like: Callable[[Connection], object] = attrgetter("active")
    ) -> Connection:
        """Return a connection for which *like* is true, if there is one."""
        connections = list(self.model.connections.values())
        some = [c for c in connections if like(c)] or connections
        return some[pick % len(some)]

    @action(weight=2)
    def delay_next_message(self) -> None:
        """Keep the next message, so that it is delivered after others."""
        self.is_next_late = True

    @action(weight=1)
    def misplace_next_message(self) -> None:
        """Push the next message to a queue that is not its task's, and then to its own, under the same id."""
        self.is_next_misplaced = True

    @action(weight=3, needs=lambda self: self.delayed, pick=PICK)
    def deliver_delayed_message(self, pick: int) -> None:
        """Deliver one of the late messages, in any order."""
        self.deliver(self.delayed.pop(pick % len(self.delayed)))

    @action(weight=4, needs=lambda self: self.sent, pick=PICK, is_new_message=st.booleans())
    def redeliver_message(self, pick: int, *, is_new_message: bool) -> None:
        """Deliver one of the last messages again, under its own id or under a new one."""
        message = self.sent[pick % len(self.sent)]
        if is_new_message:
            message = replace(message, id=f"message-{self.number()}", payload=dict(message.payload))
        self.deliver(message)
