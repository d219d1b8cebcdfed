"""Faust, and nothing but Faust: how runs of records reach the worker."""
