"""An API server in memory, behind real HTTP: what the modules need of it, server-side apply included.

`ownership` merges and keeps field owners, `kinds` says what is known of each kind, `server` speaks HTTP. It is itself
checked against a real API server by tests/integration/test_memory_api.py.
"""

from memory_api.server import Server

__all__ = ["Server"]
