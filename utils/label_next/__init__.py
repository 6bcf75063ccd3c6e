"""Few labels: which rows of a new file are worth the next ones. `python -m utils.label_next MODEL FILE`."""
