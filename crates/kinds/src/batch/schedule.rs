//! Cron's notation of times, and what is wrong with a text that isn't in it.

/// A field's name for errors, its bounds, and names for its numbers.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds {
        least: 0,
        most: 59,
        names: &[],
    },
    Bounds {
        least: 0,
        most: 23,
        names: &[],
    },
    Bounds {
        least: 1,
        most: 31,
        names: &[],
    },
    Bounds {
        least: 1,
        most: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Bounds {
        least: 0,
        most: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Whether a text is a schedule: five fields, or a word for some of them.
pub(crate) fn check(schedule: &str) -> Result<(), String> {
    let zoned = schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=");
    let schedule = match schedule.split_once(' ') {
        Some((_, rest)) if zoned => rest.trim(),
        _ => schedule,
    };
    if let Some(word) = schedule.strip_prefix('@') {
        return match word {
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
            _ => match word.strip_prefix("every ") {
                Some(duration) if is_duration(duration) => Ok(()),
                Some(_) => Err(format!("failed to parse duration {schedule}")),
                None => Err(format!("unrecognized descriptor: {schedule}")),
            },
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let found = format!("found {}: [{}]", fields.len(), fields.join(" "));
        return Err(format!("expected exactly 5 fields, {found}"));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        field
            .split(',')
            .try_for_each(|range| check_range(range, bounds))?;
    }
    Ok(())
}

/// `*`, a number, or two with a dash; perhaps a slash and a step.
fn check_range(range: &str, bounds: &Bounds) -> Result<(), String> {
    let parts: Vec<&str> = range.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, end) = match ends.as_slice() {
        ["*" | "?"] => (bounds.least, bounds.most),
        [only] => {
            let start = number(only, bounds)?;
            (start, if parts.len() == 2 { bounds.most } else { start })
        }
        [start, end] => (number(start, bounds)?, number(end, bounds)?),
        _ => return Err(format!("too many hyphens: {range}")),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => parse(step)?,
        _ => return Err(format!("too many slashes: {range}")),
    };
    if start < bounds.least {
        return Err(format!(
            "beginning of range ({start}) below minimum ({}): {range}",
            bounds.least
        ));
    }
    if end > bounds.most {
        return Err(format!(
            "end of range ({end}) above maximum ({}): {range}",
            bounds.most
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {range}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {range}"));
    }
    Ok(())
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let named = bounds.names.iter().zip(bounds.least..);
    let mut named = named.filter(|(name, _)| text.eq_ignore_ascii_case(name));
    named.next().map_or_else(|| parse(text), |(_, number)| Ok(number))
}

fn parse(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("failed to parse int from {text}: invalid syntax"))
}

/// As in `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        if digits.len() == rest.len() {
            return false;
        }
        let units = ["ns", "us", "ms", "s", "m", "h"];
        let Some(next) = units.iter().find_map(|unit| digits.strip_prefix(unit)) else {
            return false;
        };
        rest = next;
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::check;
    use rstest::rstest;

    #[rstest]
    #[case("*/5 * * * *", "")]
    #[case("0 4 1-7,15 jan-Mar mon", "")]
    #[case("5/10 ? * * 0", "")]
    #[case("@daily", "")]
    #[case("@every 1h30m", "")]
    #[case("@sometimes", "unrecognized descriptor: @sometimes")]
    #[case("@every day", "failed to parse duration @every day")]
    #[case("* * *", "expected exactly 5 fields, found 3: [* * *]")]
    #[case("60 * * * *", "end of range (60) above maximum (59): 60")]
    #[case("* * 0 * *", "beginning of range (0) below minimum (1): 0")]
    #[case("5-2 * * * *", "beginning of range (5) beyond end of range (2): 5-2")]
    #[case("*/0 * * * *", "step of range should be a positive number: */0")]
    #[case("1-2-3 * * * *", "too many hyphens: 1-2-3")]
    #[case("1/2/3 * * * *", "too many slashes: 1/2/3")]
    #[case("a * * * *", "failed to parse int from a: invalid syntax")]
    fn schedules(#[case] schedule: &str, #[case] wrong: &str) {
        assert_eq!(check(schedule).err().unwrap_or_default(), wrong);
    }
}
