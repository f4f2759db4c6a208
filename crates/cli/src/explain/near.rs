//! Names that were perhaps meant.

/// The few of them that are most like a name, or have it in them.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    const MOST: usize = 3;
    let far = name.chars().count().div_ceil(2);
    let mut near: Vec<(usize, &str)> = names
        .map(|other| {
            let inside = !name.is_empty() && other.contains(name);
            (if inside { 0 } else { distance(name, other) }, other)
        })
        .filter(|(distance, _)| *distance <= far)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(MOST)
        .map(|(_, other)| other.to_owned())
        .collect()
}

/// How many letters differ, are too many or missing.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, another) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *another);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_differ_are_counted() {
        assert_eq!(distance("frontend", "frontend"), 0);
        assert_eq!(distance("fronted", "frontend"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn near_names_come_first_and_far_ones_never() {
        let names = ["frontend-7c9-x", "frontent", "db", "backend"];
        assert_eq!(
            nearest("frontend", names.into_iter()),
            ["frontend-7c9-x", "frontent"]
        );
        assert_eq!(nearest("zzz", names.into_iter()), Vec::<String>::new());
    }
}
