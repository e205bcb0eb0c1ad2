"""Discoveries: areas and jobs that crawlers found."""
