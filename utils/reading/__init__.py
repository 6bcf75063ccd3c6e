"""From the bytes of a file to rows.

`bundled` has the sets that come along, `encodings` knows characters, `files` formats, `swallowed` stray
quotes, `table` texts and labels.
"""
