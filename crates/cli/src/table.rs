//! Tables as kubectl prints them: columns, no lines.

use comfy_table::{Table, presets};

/// Prints rows under a header.
pub(crate) fn render<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// `5s`, `3m`, `2h`, `9d`, as kubectl tells ages.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_columns_and_nothing_else() {
        let rows = vec![
            ["node-1".to_owned(), "Ready".to_owned()],
            ["node-10".to_owned(), "NotReady".to_owned()],
        ];
        assert_eq!(
            render(["NAME", "STATUS"], rows),
            "NAME      STATUS\nnode-1    Ready\nnode-10   NotReady"
        );
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(
            [0, 119, 120, 7200, 172_800].map(age),
            ["0s", "119s", "2m", "2h", "2d"]
        );
    }
}
