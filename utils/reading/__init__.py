"""From the bytes of a file to rows: `files` knows encodings and formats, `table` texts and labels, `bundled` the sets that come along."""
