"""`python -m benchmarks.peers PEER ROLE`: be one process of a peer."""

import importlib
import inspect
import sys

import uvloop

if __name__ == "__main__":
    peer, role = sys.argv[1:]
    play = getattr(importlib.import_module(f"benchmarks.peers.{peer}"), role)
    # PgQueuer's own command runs on uvloop; it is the faster for all.
    uvloop.run(play()) if inspect.iscoroutinefunction(play) else play()
