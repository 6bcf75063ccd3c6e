"""What becomes of a model's answers: which go to a person (`doubt`, which the helper uses, and `coverage`,
what that costs and buys).
"""
