"""Bytes as characters: encodings with and without a mark, guessed ones, and files that hold two."""

import pytest
from sample_tables import CSV, TWO, cases, comes_in_whole, is_refused, pairs, parquet, write

from utils.data import TableError, read_table
from utils.reading import encodings

FRENCH = "text,label\nCafé – “très bien”,bon\nÇa m’a déçu… 5 €,mauvais\n"
FRENCH_ROWS = [("Café – “très bien”", "bon"), ("Ça m’a déçu… 5 €", "mauvais")]
RUSSIAN = "text,label\n" + "Это очень хороший телефон,да\nПлохо работает батарея,нет\n"
RUSSIAN_ROWS = [("Это очень хороший телефон", "да"), ("Плохо работает батарея", "нет")]
LONG = "word " * 300 + ",x\n"  # a thousand of these are more than is looked at in one go

ACCEPTED = [
    ("utf-8 mark", "a.csv", CSV.encode("utf-8-sig"), {}, TWO, {"encoding": "utf-8-sig"}),
    ("utf-8 mark though utf-8 is asked for", "a.csv", CSV.encode("utf-8-sig"), {"encoding": "utf-8"}, TWO,
     {"encoding": "utf-8"}),
    ("utf-16 little endian", "a.csv", b"\xff\xfe" + FRENCH.encode("utf-16-le"), {}, FRENCH_ROWS,
     {"encoding": "utf-16-le"}),
    ("utf-16 big endian", "a.csv", b"\xfe\xff" + FRENCH.encode("utf-16-be"), {}, FRENCH_ROWS,
     {"encoding": "utf-16-be"}),
    ("utf-16 asked for", "a.csv", CSV.encode("utf-16"), {"encoding": "utf-16"}, TWO, {"encoding": "utf-16"}),
    ("cp1252, one letter in the whole file", "a.csv", "text,label\nCafé,good\nno,bad\n".encode("cp1252"), {},
     [("Café", "good"), ("no", "bad")], "as cp1252: 'Caf"),
    ("cp1252", "a.csv", FRENCH.encode("cp1252"), {}, FRENCH_ROWS,
     "not UTF-8 (line 2); it was read as cp1252"),
    ("cp1252 with semicolons", "a.csv", FRENCH.replace(",", ";").encode("cp1252"), {}, FRENCH_ROWS,
     "as cp1252: 'Café – “très bien”;bon'"),
    ("cp1252 in JSON lines", "a.jsonl", '{"text": "Gerät – übel", "label": "x"}\n'.encode("cp1252"), {},
     [("Gerät – übel", "x")], "as cp1252"),
    ("cp1252 in the label alone", "a.csv", "text,label\na,négatif\nb,positif\n".encode("cp1252"), {},
     [("a", "négatif"), ("b", "positif")], "as cp1252"),
    ("cp1252, first seen late", "a.csv", ("text,label\n" + LONG * 1000 + "fin – café,y\n").encode("cp1252"),
     {}, [(LONG[:-3], "x")] * 1000 + [("fin – café", "y")], "line 1002"),
    ("cp1251", "a.csv", RUSSIAN.encode("cp1251"), {}, RUSSIAN_ROWS, "as cp1251"),
    ("koi8-r named", "a.csv", RUSSIAN.encode("koi8_r"), {"encoding": "koi8_r"}, RUSSIAN_ROWS,
     {"encoding": "koi8_r"}),
    ("latin-1 named", "a.csv", "text,label\né,x\n".encode("latin-1"), {"encoding": "latin-1"}, [("é", "x")],
     {"encoding": "latin-1"}),
    ("a chunk's end inside a letter", "a.csv", "text,label\n" + "é" * (1 << 20) + ",x\n", {},
     [("é" * (1 << 20), "x")], {"encoding": "utf-8"}),
    ("utf-16 without a mark, named", "a.csv", FRENCH.encode("utf-16-le"), {"encoding": "utf-16-le"},
     FRENCH_ROWS,
     {"encoding": "utf-16-le"}),
]  # fmt: skip
REFUSED = [
    ("one line of another encoding", "a.csv", b"text,label\n" + "é ü ñ,x\n".encode() * 9 + b"\xe9,x\n", {},
     "line 11 is not UTF-8, though the rest is. Mend that line"),
    ("no encoding at all", "a.csv", b"text,label\n\x81\x8d\x8f\xff\xfe,x\n", {},
     "line 2: bytes that are not utf-8. Save it as UTF-8"),
    ("half a UTF-16 file", "a.csv", CSV.encode("utf-16")[:-1], {},
     "bytes that are not utf-16-le, though the file begins with its mark"),
    ("the wrong encoding asked for", "a.csv", FRENCH.encode("cp1252"), {"encoding": "utf-8"},
     "line 2: bytes that are not utf-8. Give the encoding it was saved in"),
    ("an encoding that is none", "a.csv", CSV, {"encoding": "utf-99"},
     "encoding='utf-99' is none that Python knows"),
    ("an encoding that is not for text", "a.csv", CSV, {"encoding": "hex"},
     "encoding='hex' is none that Python knows"),
    ("an encoding for Parquet", "a.parquet", parquet(text=["a"], label=["b"]), {"encoding": "utf-8"},
     "has no encoding"),
    ("a NUL", "a.csv", CSV + "nul\0,x\n", {}, "line 4: a NUL character"),
    ("a file of zeros", "a.csv", bytes(1000), {}, "line 1: a NUL character"),
    ("utf-16 without a mark", "a.csv", CSV.encode("utf-16-le"), {},
     "line 1: a NUL character. Save it as UTF-8, or name its encoding"),
    ("utf-16 without a mark, beyond ASCII", "a.csv", FRENCH.encode("utf-16-be"), {},
     "line 2: bytes that are not utf-8. Save it as UTF-8, or name its encoding"),
]  # fmt: skip


@cases(("name", "content", "arguments", "rows", "says"), ACCEPTED)
def test_an_encoding_is_found_or_taken_as_named(tmp_path, name, content, arguments, rows, says):
    comes_in_whole(tmp_path, name, content, arguments, rows, says)


@cases(("name", "content", "arguments", "says"), REFUSED)
def test_bytes_of_no_encoding_are_refused_with_their_line(tmp_path, name, content, arguments, says):
    is_refused(says, read_table, write(tmp_path, name, content), **arguments)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def deny(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(encodings, "open", deny, raising=False)
    with pytest.raises(TableError, match="a.csv cannot be read .*Permission denied.*Look at its permissions"):
        read_table(write(tmp_path, "a.csv", CSV))


def test_the_sample_shows_the_character_in_question(tmp_path):
    found = read_table(
        write(
            tmp_path,
            "a.csv",
            f"text,label\n{'word ' * 40}caf\u00e9 and{' more' * 40},a\nb,b\n".encode("cp1252"),
        )
    ).findings[0]
    assert "line 2); it was read as cp1252: '...d word word" in found.message
    assert "café and more" in found.message
    assert len(found.message) < 200


# --- two encodings in one file ------------------------------------------------------------------------------

SPOKEN = {  # texts and labels
    "cp1252": (
        ["Café très bon", "Größe paßt nicht", "señor, mañana", "l’été – ça va", "naïve…", "CAFÉ’S"],
        ["négatif", "positif"],
    ),
    "mac_roman": (
        ["Café très bon", "l’été ça va", "naïve…", "l’état d’école", "d’État", "l’Église"],
        ["négatif", "positif"],
    ),
    "cp1250": (["Žluťoučký kůň", "příliš dobrý telefon", "špatná baterie"], ["ano", "žádný"]),
    "cp1251": (["Это очень хороший телефон", "Плохо работает батарея", "«Отлично»"], ["да", "нет"]),
    "koi8_r": (["Это очень хороший телефон", "Плохо работает батарея", "Отлично"], ["да", "нет"]),
    "cp1253": (["Πολύ καλό τηλέφωνο", "Η μπαταρία δεν δουλεύει", "Άριστα"], ["ναι", "όχι"]),
    "gb18030": (["这个手机非常好用", "电池质量很差", "很好", "差", "联通"], ["好", "坏"]),
}
SHORT = {  # few characters beyond ASCII in a line, and some of them in no western page
    "cp1250": [("bardzo mały", "słaby"), ("miły zakup", "dobry")],
    "cp1257": [("labai geras šuo", "gražus"), ("blogas ąžuolas", "ne")],
    "cp1251": [("да", "нет"), ("ну", "да")],
}


def told(encoding, rows=60):
    texts, labels = SPOKEN[encoding]
    return [f"{i} {texts[i % len(texts)]};{labels[i % 2]}\n" for i in range(rows)]


@pytest.mark.parametrize("encoding", SHORT)
@pytest.mark.parametrize("part", [10, 30])
def test_two_encodings_are_told_apart_in_short_lines(tmp_path, encoding, part):
    lines = [f"{i} {SHORT[encoding][i % 2][0]},{SHORT[encoding][i % 2][1]}\n" for i in range(60)]
    mixed = b"text,label\n" + "".join(lines[:part]).encode() + "".join(lines[part:]).encode(encoding)
    first = "(2, 3, 4, 5, 6, 7, 8, 9, 10, 11)" if part == 10 else "(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...)"
    says = f"in two encodings: {part} lines {first} UTF-8, {60 - part} lines"
    is_refused(says, read_table, write(tmp_path, "a.csv", mixed))
    path = write(tmp_path, "whole.csv", ("text,label\n" + "".join(lines)).encode(encoding))
    assert read_table(path, encoding=encoding).rows["text"].iloc[0] == f"0 {SHORT[encoding][0][0]}"


@pytest.mark.parametrize("encoding", SPOKEN)
@pytest.mark.parametrize(
    ("part", "first"), [(3, "utf-8"), (3, "other"), (30, "utf-8"), (30, "other"), (56, "other")]
)
def test_two_encodings_in_one_file_are_refused_with_their_lines(tmp_path, encoding, part, first):
    before, behind = ("utf-8", encoding) if first == "utf-8" else (encoding, "utf-8")
    written = told(encoding)
    mixed = b"text;label\n" + "".join(written[:part]).encode(before) + "".join(written[part:]).encode(behind)
    with pytest.raises(
        TableError, match="a.csv is in two encodings: .* Save each part as UTF-8 first"
    ) as error:
        read_table(write(tmp_path, "a.csv", mixed))
    utf8, other = str(error.value).split(" UTF-8, ")
    early, late = (utf8, other) if first == "utf-8" else (other, utf8)
    assert "(2, " in early
    assert any(f"({line}, " in late for line in range(part + 2, part + 5))  # now and then a line is either
    assert part != 30 or f"perhaps {encoding}." in other


@pytest.mark.parametrize("encoding", SPOKEN)
def test_one_encoding_in_a_file_is_read_as_it_is(tmp_path, encoding):
    written = told(encoding, 300)
    table = read_table(write(tmp_path, "a.csv", b"text;label\n" + "".join(written).encode(encoding)))
    assert [f"{text};{label}\n" for text, label in pairs(table)] == written
    assert table.source["encoding"] == encoding


MIXED = [
    ("a line of UTF-8 among many others",
     b"text;label\n" + "".join(told("cp1252", 3000)).encode("cp1252") + told("cp1252", 1)[0].encode(),
     "line 3002 UTF-8, 2,500 lines (2, 3, 4, 5, 6, 8, 9, 10, 11, 12, ...) perhaps cp1252"),
    ("a mark before one of two",
     "text,label\ncafé,a\nthé,b\n".encode("utf-8-sig") + "fin – café,a\nça va,b\n".encode("cp1252"),
     "in two encodings: 3 lines (1, 2, 3) UTF-8, 2 lines (4, 5) perhaps cp1252"),
]  # fmt: skip


@cases(("content", "says"), MIXED)
def test_where_the_other_encoding_stands(tmp_path, content, says):
    is_refused(says, read_table, write(tmp_path, "a.csv", content))


def test_a_way_out_is_named_only_where_it_is_one(tmp_path):
    for text, way_out in (("é", True), ("Á", False)):  # cp1252 lacks one of the bytes that Á has in UTF-8
        path = write(
            tmp_path, "a.csv", "text,label\nfin – café,a\nça va,b\n".encode("cp1252") + f"{text},a\n".encode()
        )
        with pytest.raises(TableError) as error:
            read_table(path)
        assert ("If all of it is cp1252, write encoding='cp1252'" in str(error.value)) == way_out
        if way_out:
            assert pairs(read_table(path, encoding="cp1252"))[-1] == ("Ã©", "a")
