"""Scores from outcomes: pure functions that the server and the worker share."""
