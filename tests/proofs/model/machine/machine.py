"""The machine: whatever may happen next, done to the product and told to the model, which are then compared."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from proofs.model.machine.actions import Arguments, any_of, deed, deeds_of
from proofs.model.machine.crawlers import PICK
from proofs.model.machine.stories import Stories

_CREW = 3

_SOMETIMES_NEVER = (
    *("says", "commands", "commands_an_account", "orders", "has_tokens", "clean_up", "one_says_goodbye"),
    *("one_falls_silent", "most_fall_silent", "one_forgets", "nobody_beats", "nobody_sweeps", "sweep"),
    *("one_has_a_past", "some_speak", "the_next_message_is_late", "reconcile"),
)


class Machine(Stories):
    """One life of the product: its web app, its crawlers, its routine, and what rarely comes together by chance."""

    @initialize(
        capacities=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        picks=st.sets(PICK, min_size=6, max_size=8),
        never=st.sets(st.sampled_from(_SOMETIMES_NEVER), max_size=6),
    )
    def begin(self, capacities: list[int], picks: set[int], never: set[str]) -> None:
        """A fleet, and work for it; and what is not to happen in this life, so that others do."""
        self.never = never
        self.inserts_its_own()
        for capacity in capacities:
            self.one_registers(capacity)
        self.orders(sorted(picks), 0)
        self.assign()

    @rule(what=st.deferred(lambda: _DEEDS))
    def happens(self, what: tuple[str, Arguments]) -> None:
        """Whatever may happen; work goes on where this cannot."""
        name, arguments = what
        if name in self.never or not getattr(self, name).deed.needs(self):
            self.work_goes_on(2)
        else:
            getattr(self, name)(**arguments)

    @deed(weight=8, capacity=st.integers(1, 3))
    def work_goes_on(self, capacity: int) -> None:
        """Crawlers come back, what was backed off is due, and a pass finds it."""
        for _ in range(len(self.model.active), _CREW):
            self.one_registers(capacity)
        self.time_passes(1, is_swept=False)
        self.assign()


_DEEDS = any_of(deeds_of(Machine))
