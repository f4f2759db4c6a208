//! Notes of what is wrong with an object, as many as anybody reads. Whoever writes a name of a megabyte over a
//! hundred thousand mistakes doesn't get it back with each of them.

/// How many mistakes are told of one object. Kubernetes tells as many of unknown and repeated fields.
const MOST: usize = 100;
/// How much of a path is told.
const LONGEST: usize = 1024;

/// Notes the path of a mistake, if there is room for it.
pub fn note(notes: &mut Vec<String>, path: &str) {
    if notes.len() < MOST {
        notes.push(short(path));
    }
}

/// A name as far as it is shown.
pub(crate) fn short(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stay_few_and_short() {
        let mut notes = Vec::new();
        for _ in 0..1000 {
            note(&mut notes, &"é".repeat(10_000));
        }
        assert_eq!(notes.len(), MOST);
        assert!(notes.iter().all(|note| note.len() < LONGEST + 8));
        assert_eq!(short("spec.a"), "spec.a");
    }
}
