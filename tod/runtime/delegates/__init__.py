"""Delegates: who computes a graph. A name -> a `Runner`; one library in one file.

A list of names is an order: the first one computes, and where it fails the next one is asked.
"""
