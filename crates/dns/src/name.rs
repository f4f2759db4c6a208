//! Names as labels: lower case, without an allocation.

use hickory_proto::rr::Name;

/// As many as fit into a name.
const MOST_LABELS: usize = 127;

/// A name's labels in lower case.
#[derive(Clone, Copy)]
pub struct Labels {
    text: [u8; Name::MAX_LENGTH],
    ends: [u8; MOST_LABELS],
    count: usize,
}

impl Labels {
    const NONE: Labels = Labels {
        text: [0; Name::MAX_LENGTH],
        ends: [0; MOST_LABELS],
        count: 0,
    };

    /// Those of a name.
    pub fn of(name: &Name) -> Labels {
        let mut labels = Labels::NONE;
        name.iter().for_each(|label| labels.push(label));
        labels
    }

    /// Those of a name that is written at that place of a message, and where it ends. None if it's no
    /// name, or has pointers.
    pub fn read(bytes: &[u8], start: usize) -> Option<(Labels, usize)> {
        const LONGEST_LABEL: u8 = 63;
        let (mut labels, mut at) = (Labels::NONE, start);
        loop {
            let length = *bytes.get(at)?;
            at += 1;
            if length == 0 {
                return Some((labels, at));
            }
            let end = at + usize::from(length);
            // The root's byte is to come.
            if length > LONGEST_LABEL || end - start >= Name::MAX_LENGTH {
                return None;
            }
            labels.push(bytes.get(at..end)?);
            at = end;
        }
    }

    fn push(&mut self, label: &[u8]) {
        let start = self.count.checked_sub(1).map_or(0, |last| self.ends[last].into());
        let end = start + label.len();
        self.text[start..end].copy_from_slice(label);
        self.text[start..end].make_ascii_lowercase();
        self.ends[self.count] = u8::try_from(end).expect("a name is shorter than 256 bytes");
        self.count += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it's the root's name.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One of them, from the left. One that isn't text is as good as one that nobody has.
    pub fn get(&self, index: usize) -> &str {
        let start = match index {
            0 => 0,
            _ => usize::from(self.ends[index - 1]),
        };
        let bytes = &self.text[start..usize::from(self.ends[index])];
        std::str::from_utf8(bytes).unwrap_or("\u{fffd}")
    }

    /// The rightmost.
    pub fn last(&self) -> Option<&str> {
        self.count.checked_sub(1).map(|last| self.get(last))
    }

    /// The first `count` of them.
    pub fn first(&self, count: usize) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        (0..count).map(|index| self.get(index))
    }

    /// How many are in front of `suffix`, if that is how the name ends.
    pub fn before(&self, suffix: &[String]) -> Option<usize> {
        let count = self.count.checked_sub(suffix.len())?;
        let ends = suffix
            .iter()
            .enumerate()
            .all(|(index, label)| self.get(count + index) == label);
        ends.then_some(count)
    }
}

/// A name's labels in lower case, to be kept.
pub fn labels(name: &Name) -> Vec<String> {
    let labels = Labels::of(name);
    labels.first(labels.len()).map(str::to_owned).collect()
}

/// A name that people write, as in `corp.example`; the dot at its end may be missing.
pub fn parse(text: &str) -> Option<Name> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_in_lower_case_and_in_order() {
        let name = parse("WWW.Example.COM").expect("a name");
        assert_eq!(labels(&name), ["www", "example", "com"]);
        assert_eq!(labels(&Name::root()), [""; 0]);
    }

    #[test]
    fn a_suffix_is_whole_labels() {
        let suffix = labels(&parse("example.com").expect("a name"));
        let before = |text: &str| Labels::of(&parse(text).expect("a name")).before(&suffix);
        assert_eq!(before("a.b.example.com"), Some(2));
        assert_eq!(before("example.com"), Some(0));
        assert_eq!(before("anexample.com"), None);
        assert_eq!(before("com"), None);
    }

    #[test]
    fn the_longest_name_fits() {
        let labels = ["a"; MOST_LABELS];
        let name =
            Name::from_labels(labels.iter().map(|label| label.as_bytes())).expect("as long as names may be");
        assert_eq!(Labels::of(&name).len(), MOST_LABELS);
    }

    #[test]
    fn bytes_that_are_no_text_are_nobodys_label() {
        let name = Name::from_labels([&b"\xff\xfe"[..], b"com"]).expect("bytes are allowed");
        assert_eq!(Labels::of(&name).get(0), "\u{fffd}");
    }
}
