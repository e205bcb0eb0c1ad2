"""Crawlers: their connections, their frames, and the sweep that finds the dead."""
