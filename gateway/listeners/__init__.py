"""Listeners: addresses, sockets, TLS and WebSocket, and the bounds of what a peer may send."""
