use super::*;

/// Reads it in pieces of that length; whether a response ends with it.
fn read(bytes: &[u8], piece: usize) -> Result<bool, Violation> {
    let mut framing = Framing::default();
    for piece in bytes.chunks(piece) {
        framing.read(piece)?;
    }
    Ok(framing.line.is_empty() && framing.string == 0 && framing.missing.is_empty())
}

#[test]
fn values_end_where_they_end_however_they_come() {
    for text in [
        "+OK\r\n",
        ":1\r\n",
        "-ERR with \r in it\r\n",
        "$5\r\na\r\nb$\r\n",
        "$0\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n",
        "%1\r\n+a\r\n*0\r\n",
        "|1\r\n+a\r\n+b\r\n:1\r\n",
        ">3\r\n+message\r\n$1\r\nc\r\n$1\r\np\r\n",
        "~1\r\n#t\r\n",
        "=6\r\ntxt:ab\r\n",
        "!3\r\nERR\r\n",
        "_\r\n,1.5\r\n(123\r\n",
    ] {
        for piece in 1..=text.len() {
            assert_eq!(
                read(text.as_bytes(), piece),
                Ok(true),
                "{text:?} by {piece}"
            );
        }
        for end in 1..text.len() {
            let is_whole = text == "_\r\n,1.5\r\n(123\r\n" && [3, 9].contains(&end);
            assert_eq!(
                read(&text.as_bytes()[..end], 3),
                Ok(is_whole),
                "{text:?} to {end}"
            );
        }
    }
}

#[test]
fn beyond_the_limits_nothing_is_read() {
    let nested = "*1\r\n".repeat(MAX_DEPTH + 1);
    let long = format!("${}\r\n", MAX_BYTES + 1);
    let many = format!("*{}\r\n", MAX_PARTS + 1);
    let map = format!("%{}\r\n", MAX_PARTS / 2 + 1);
    let spread = format!(
        "*2\r\n*{0}\r\n{1}*{0}\r\n{1}",
        MAX_PARTS / 2,
        ":1\r\n".repeat(MAX_PARTS / 2)
    );
    let line = "+".repeat(MAX_BYTES + 1);
    let halves = format!(
        "*2\r\n${0}\r\n{1}\r\n${0}\r\n{1}\r\n",
        MAX_BYTES / 2,
        "x".repeat(MAX_BYTES / 2)
    );
    for text in [
        &*nested,
        &long,
        &many,
        &map,
        &spread,
        &line,
        &halves,
        "HTTP/1.1 400 Bad Request\r\n",
        "\x15\x03\x03\0\x02\x02F\n",
        "$?\r\n",
        "$-2\r\n",
        "$+1\r\n",
        "$1\n",
        "*\r\n",
        "%-1\r\n",
        "=-1\r\n",
        "$99999999999999999999999",
        "*18446744073709551616\r\n",
    ] {
        for piece in [1, 7, 1 << 13, usize::MAX] {
            let shown: String = text.chars().take(30).collect();
            assert_eq!(
                read(text.as_bytes(), piece),
                Err(Violation),
                "{shown:?} by {piece}"
            );
        }
    }
}

#[test]
fn what_fits_is_read_again_and_again() {
    let one = format!("${0}\r\n{1}\r\n", MAX_BYTES / 2, "x".repeat(MAX_BYTES / 2));
    let parts = format!("*{0}\r\n{1}", MAX_PARTS / 2, ":1\r\n".repeat(MAX_PARTS / 2));
    assert_eq!(read((one + &parts).repeat(3).as_bytes(), 1 << 13), Ok(true));
}
