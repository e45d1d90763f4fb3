"""Owns the wire protocols that clients speak: one adapter a module, each over the same `session.Session`.

An adapter reads its protocol's frames, has the session decide, and writes what the session says in its protocol's
words. None knows sockets, clocks or audio; `docs/protocols.md` says which client each one is for.
"""
