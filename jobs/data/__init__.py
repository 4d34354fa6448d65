"""Data sets on this machine: found or fetched from their home, and decoded once. Importing it loads no torch."""

from jobs.data.bundled import bundled
from jobs.data.fetch import find, get
from jobs.data.places import cache_folder, cached, contained, folder, reading

__all__ = ["bundled", "cache_folder", "cached", "contained", "find", "folder", "get", "reading"]
