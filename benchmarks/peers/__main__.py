"""`python -m benchmarks.peers PEER ROLE`: runs one process of a peer."""

import importlib
import inspect
import sys

import uvloop

if __name__ == "__main__":
    peer, role = sys.argv[1:]
    play = getattr(importlib.import_module(f"benchmarks.peers.{peer}"), role)
    # PgQueuer's own command runs on uvloop, and the other peers are faster with it too.
    uvloop.run(play()) if inspect.iscoroutinefunction(play) else play()
