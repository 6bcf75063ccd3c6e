"""After training: what a run left, smaller, faster, explained and served. Neither the helper nor another room
imports this one, and what it needs beyond the other rooms is imported where it is used.
"""
