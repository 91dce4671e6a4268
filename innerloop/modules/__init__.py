"""Modules that adapt: which parameters, with which statistics, without changing the module."""
