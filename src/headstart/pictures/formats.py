"""Which picture format some bytes are in, told by the bytes themselves and never by a file's name."""

HEAD_BYTES = 64
"""How many of a file's first bytes `recognise` wants to see."""

EXTENSIONS = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".ico"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".avifs", ".heic", ".heif", ".hif"),
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    ]
)
"""Lower-case file extensions that promise a picture; whether it is one, its bytes decide."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II\x2a\x00", "TIFF"),
    (b"MM\x00\x2a", "TIFF"),
    (b"II\x2b\x00", "TIFF"),
    (b"MM\x00\x2b", "TIFF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
)
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
_BMP_HEADER_SIZES = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_WHITESPACE = b" \t\r\n#"


def recognise(head: bytes) -> str | None:
    """The format of a file that begins with `head` (its first `HEAD_BYTES` or more), or None.

    Returns:
        One of Pillow's names JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, AVIF, JPEG2000, ICO, or HEIF.
    """
    for magic, format_name in _MAGIC:
        if head.startswith(magic):
            return format_name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _recognise_brands(head)
    # The signatures that remain are only two or four bytes long: look at what follows them, too.
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if head[:4] == b"\0\0\1\0" and head[9:10] == b"\0" and 0 < int.from_bytes(head[4:6], "little") <= 256:
        return "ICO"
    if head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3] and head[2:3] in _WHITESPACE:
        return "PPM"
    return None


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins with `head` claims to be a picture of a format that headstart knows."""
    return recognise(head) is not None


def ends_early(data: bytes, format_name: str) -> bool:
    """Whether a file is shorter than it says: to tell a truncated picture from one that is damaged otherwise."""
    if format_name == "WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if format_name == "BMP":
        return len(data) < int.from_bytes(data[2:6], "little")
    if format_name == "PNG":
        return b"IEND" not in data
    if format_name in ("AVIF", "HEIF", "JPEG2000") and not data.startswith(b"\xff\x4f"):
        return _end_of_boxes(data) > len(data)
    return False


def _end_of_boxes(data: bytes) -> int:
    """Where the last of an ISO media file's outer boxes ends, by its own account."""
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 1:  # the length is too long for four bytes
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8:  # 0: up to the end of the file, wherever that was
            break
        position += length
    return position


def _recognise_brands(head: bytes) -> str | None:
    """AVIF or HEIF, by the brands of an ISO media file; None for a film or sound."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[start : start + 4] for start in (8, *range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None
