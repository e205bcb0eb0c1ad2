"""The machine: it applies random actions to the product and to the model, and compares them."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from proofs.model.machine.actions import Arguments, action, actions_of, any_of
from proofs.model.machine.crawlers import PICK
from proofs.model.machine.scenarios import Scenarios

_CREW = 3

_SOMETIMES_NEVER = (
    *(
        "change_status",
        "send_command",
        "send_account_command",
        "submit_orders",
        "write_tokens",
        "clean_up",
        "disconnect",
    ),
    *(
        "silence_connection",
        "silence_most_connections",
        "omit_jobs_from_list",
        "advance_without_heartbeats",
        "advance_without_sweeps",
        "sweep",
    ),
    *("set_counts", "send_frames", "delay_next_message", "misplace_next_message", "reconcile"),
)


class Machine(Scenarios):
    """One run of the product, with its web app, crawlers, periodic tasks, and scenarios that rarely arise by chance."""

    @initialize(
        capacities=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        picks=st.sets(PICK, min_size=6, max_size=8),
        never=st.sets(st.sampled_from(_SOMETIMES_NEVER), max_size=6),
    )
    def begin(self, capacities: list[int], picks: set[int], never: set[str]) -> None:
        """Start with a fleet and jobs. The actions in *never* do not happen in this run, so that others happen more."""
        self.never = never
        self.insert_scope_jobs()
        for capacity in capacities:
            self.register_crawler(capacity)
        self.submit_orders(sorted(picks), 0)
        self.assign()

    @rule(what=st.deferred(lambda: _ACTIONS))
    def take_action(self, what: tuple[str, Arguments]) -> None:
        """Take any action; continue the work if it is not possible now."""
        name, arguments = what
        if name in self.never or not getattr(self, name).action.needs(self):
            self.continue_work(2)
        else:
            getattr(self, name)(**arguments)

    @action(weight=8, capacity=st.integers(1, 3))
    def continue_work(self, capacity: int) -> None:
        """Replace lost crawlers, let backed-off jobs become due, and assign."""
        for _ in range(len(self.model.active), _CREW):
            self.register_crawler(capacity)
        self.advance_time(1, is_swept=False)
        self.assign()


_ACTIONS = any_of(actions_of(Machine))
