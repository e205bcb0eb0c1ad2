"""Checks of the database, the broker, the settings and the processes of this machine."""
