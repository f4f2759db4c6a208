//! One line of a CRI log.

/// A line's parts, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// RFC 3339 with nanoseconds.
    pub(crate) time: &'a str,
    pub(crate) stream: Stream,
    /// The container's line goes on in the next one.
    pub(crate) partial: bool,
    /// Without the newline.
    pub(crate) content: &'a [u8],
}

/// Where the container wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Takes a line apart: `TIME STREAM TAGS CONTENT`. `None` if it isn't one.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (time, rest) = word(line)?;
    let time = std::str::from_utf8(time)
        .ok()
        .filter(|t| t.as_bytes().get(4) == Some(&b'-'))?;
    let (stream, rest) = word(rest)?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // An empty line may have lost the blank after its tags.
    let (tags, content) = word(rest).unwrap_or((rest, b""));
    let partial = match tags.split(|&b| b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Line {
        time,
        stream,
        partial,
        content,
    })
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&b| b == b' ')?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = parse(b"2026-11-21T11:00:00.1Z stderr P two words\n").unwrap();
        assert_eq!(
            (line.time, line.stream, line.partial),
            ("2026-11-21T11:00:00.1Z", Stream::Stderr, true)
        );
        assert_eq!(line.content, b"two words");
        assert_eq!(parse(b"2026-11-21T11:00:00Z stdout F \n").unwrap().content, b"");
        assert_eq!(parse(b"2026-11-21T11:00:00Z stdout F").unwrap().content, b"");
        assert_eq!(
            parse(b"2026-11-21T11:00:00Z stdout F:x \xff\xfe")
                .unwrap()
                .content,
            b"\xff\xfe"
        );
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in [
            &b""[..],
            b"hello",
            b"2026-11-21T11:00:00Z stdfoo F x",
            b"2026-11-21T11:00:00Z stdout X x",
            b"middle stdout F x",
        ] {
            assert_eq!(parse(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
