"""Few labels: which rows to label next (`python -m utils.label_next`), and what twice as many labels would
bring (`python -m utils.label_next.forecast`).
"""
