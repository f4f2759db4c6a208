//! A run's figures, kept in a page: its last section is written anew, and the picture beside it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::chart;
use crate::figures::Figures;

/// What the last section is headed by.
const HEADING: &str = "\n## Figures\n";

/// Writes the page and the picture.
pub(crate) fn write(page: &Path, about: &str, figures: &Figures) -> Result<()> {
    let named = || page.display().to_string();
    let before = std::fs::read_to_string(page).with_context(named)?;
    let picture = page.with_extension("svg");
    let name = picture.file_name().unwrap_or_default().to_string_lossy();
    let after = section(&before, about, &name, &figures.to_string()).with_context(named)?;
    std::fs::write(&picture, chart::svg(&figures.comparisons, about))
        .with_context(|| picture.display().to_string())?;
    std::fs::write(page, after).with_context(named)
}

/// The page with its last section written anew.
fn section(page: &str, about: &str, picture: &str, tables: &str) -> Result<String> {
    let (kept, _) = page
        .split_once(HEADING)
        .with_context(|| format!("there is no section `{}`", HEADING.trim()))?;
    Ok(format!(
        "{kept}{HEADING}\n{about}, one run. Run `make bench` for those of your machine; a change that is meant to make something faster comes with the table from before and after.\n\n![What traffic between pods costs beside plain routing]({picture})\n\n{tables}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_section_changes() {
        let page = "# A\n\ntext\n\n## Figures\n\nold\n";
        let new = section(page, "a machine", "a.svg", "| new |\n").unwrap();
        assert!(new.starts_with("# A\n\ntext\n\n## Figures\n\na machine, one run."));
        assert!(new.ends_with("(a.svg)\n\n| new |\n") && !new.contains("old"));
        assert_eq!(section(&new, "a machine", "a.svg", "| new |\n").unwrap(), new);
        assert!(section("# A\n", "", "", "").is_err());
    }

    #[test]
    fn the_picture_lies_beside_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("bench.md");
        assert!(write(&page, "a machine", &Figures::default()).is_err());
        std::fs::write(&page, "# A\n\n## Figures\n").unwrap();
        write(&page, "a machine", &Figures::default()).unwrap();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains("](bench.svg)"), "{text}");
        let picture = std::fs::read_to_string(folder.path().join("bench.svg")).unwrap();
        assert!(picture.starts_with("<svg ") && picture.contains("a machine"));
    }
}
