"""What becomes of a model's answers: which go to a person (`doubt`), what that costs and buys (`coverage`),
and whether new texts are those that the model was made for (`profile`). The helper uses all but `coverage`.
"""
