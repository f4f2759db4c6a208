//! Checks that the documents say what is: crates, commands and links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Checks the documents under `root`; prints each fault, and fails if there is any.
pub(crate) fn check(root: &Path, ripstop: Option<&Path>) -> Result<()> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path);
        text.with_context(|| format!("read {}", path.display()))
    };
    let mut faults = crates(
        &read(&root.join("ARCHITECTURE.md"))?,
        &folders(&root.join("crates"))?,
    );
    let readme = read(&root.join("README.md"))?;
    faults.extend(targets(&readme, &read(&root.join("Makefile"))?));
    if let Some(program) = ripstop {
        for usage in commands(&readme) {
            faults.extend(try_command(program, &usage)?);
        }
    }
    for page in pages(root)? {
        let shown = page.strip_prefix(root).unwrap_or(&page).display().to_string();
        let text = read(&page)?;
        let broken = links(&text)
            .into_iter()
            .filter(|link| !leads_somewhere(&page, link));
        faults.extend(broken.map(|link| format!("{shown}: nothing is at ({link})")));
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    if !faults.is_empty() {
        bail!("the documents have {} faults", faults.len());
    }
    Ok(())
}

fn folders(path: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The crates' table against the crates' folders.
fn crates(architecture: &str, folders: &BTreeSet<String>) -> Vec<String> {
    let section = architecture
        .split("\n## ")
        .find(|part| part.starts_with("Crates"));
    let named: BTreeSet<String> = section
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .flat_map(code)
        .collect();
    let missing = named.difference(folders);
    let missing = missing.map(|name| format!("ARCHITECTURE.md: there is no crate `{name}`"));
    let silent = folders.difference(&named);
    let silent = silent.map(|name| format!("ARCHITECTURE.md: the crate `{name}` isn't named"));
    missing.chain(silent).collect()
}

/// Every `make TARGET` of the text against the Makefile.
fn targets(text: &str, makefile: &str) -> Vec<String> {
    let defined = |target: &str| {
        makefile.lines().any(|line| {
            let names = line.split(':').next().unwrap_or_default();
            line.contains(':') && names.split_whitespace().any(|name| name == target)
        })
    };
    let words = lines_of_code(text).into_iter().filter_map(|line| {
        let target = line.strip_prefix("make ")?.split_whitespace().next()?;
        Some(target.to_owned())
    });
    let unknown: BTreeSet<String> = words.filter(|target| !defined(target)).collect();
    let fault = |target| format!("README.md: the Makefile has no target `{target}`");
    unknown.into_iter().map(fault).collect()
}

/// A command's words and the options it is said to take.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Usage {
    words: Vec<String>,
    options: BTreeSet<String>,
}

/// Every use of `ripstop` in the text.
fn commands(text: &str) -> BTreeSet<Usage> {
    let mut found = BTreeSet::new();
    for line in lines_of_code(text) {
        let line = line.split(" #").next().unwrap_or_default();
        let mut words = line.split_whitespace().peekable();
        if !words
            .next()
            .is_some_and(|word| word == "ripstop" || word.ends_with("/ripstop"))
        {
            continue;
        }
        let mut paths: Vec<Vec<String>> = vec![Vec::new()];
        let is_command = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        while let Some(word) = words.next_if(is_command) {
            // `stop\|start` in a table stands for both.
            let choices: Vec<&str> = word.split('|').map(|one| one.trim_end_matches('\\')).collect();
            let longer = |path: &Vec<String>| {
                let path = path.clone();
                let with = |choice: &&str| [path.clone(), vec![choice.to_string()]].concat();
                choices.iter().map(with).collect::<Vec<_>>()
            };
            paths = paths.iter().flat_map(longer).collect();
        }
        let options: BTreeSet<String> = words
            .map(|word| word.trim_matches(['[', ']', ',', '.']))
            .filter(|word| word.starts_with('-') && word.len() > 1)
            .map(|word| word.split('=').next().unwrap_or(word).to_owned())
            .collect();
        for words in paths {
            let options = options.clone();
            found.insert(Usage { words, options });
        }
    }
    found
}

/// Asks the program itself whether it knows a command and its options. What
/// isn't a subcommand is an argument (`completions bash`, `node stop node-2`):
/// help is given all the same.
fn try_command(program: &Path, usage: &Usage) -> Result<Vec<String>> {
    let shown = usage.words.join(" ");
    // `help` gives help anyway, and knows no options.
    let help = (usage.words.first().map(String::as_str) != Some("help")).then_some("--help");
    let output = Command::new(program)
        .args(&usage.words)
        .args(help)
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    if !output.status.success() {
        return Ok(vec![format!("README.md: there is no command `ripstop {shown}`")]);
    }
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let known = |option: &&String| {
        let is_it = |word: &str| word.trim_end_matches(',') == option.as_str();
        help.split_whitespace().any(is_it)
    };
    let unknown = usage.options.iter().filter(|option| !known(option));
    Ok(unknown
        .map(|option| format!("README.md: `ripstop {shown}` has no option {option}"))
        .collect())
}

/// What stands between single backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Commands: lines of code blocks without their prompt, and code in the text.
fn lines_of_code(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            lines.push(line.trim().trim_start_matches("$ ").to_owned());
        } else {
            lines.extend(code(line));
        }
    }
    lines
}

/// The targets of links to places in the repository.
fn links(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        }
        if inside {
            continue;
        }
        // Code isn't markup.
        let prose: Vec<&str> = line.split('`').step_by(2).collect();
        for part in prose.join("").split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Whether a page's link leads to a file, and to a heading in it if it names one.
fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => page.to_owned(),
        path => page.parent().unwrap_or(Path::new("")).join(path),
    };
    if heading.is_empty() {
        return target.exists();
    }
    let Ok(text) = fs::read_to_string(&target) else {
        return false;
    };
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .any(|line| anchor(line.trim_start_matches('#')) == heading)
}

/// A heading's name in links.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let text: String = heading.trim().chars().filter(kept).collect();
    text.to_lowercase().replace(' ', "-")
}

/// The repository's pages: at its root and in docs.
fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for folder in [root.to_owned(), root.join("docs")] {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_must_be_named_and_be_there() {
        let page = "# A\n\n## Crates\n\nWords about `other`.\n\n| crate | job |\n| --- | --- |\n\
                    | `a`, `b` | uses `c` |\n| `gone` | x |\n\n## More\n\n| `z` | y |\n";
        let folders = ["a", "b", "new"].map(str::to_owned).into();
        assert_eq!(
            crates(page, &folders),
            [
                "ARCHITECTURE.md: there is no crate `gone`",
                "ARCHITECTURE.md: the crate `new` isn't named"
            ]
        );
    }

    #[test]
    fn make_targets_are_looked_up() {
        let readme = "Run `make up` or\n```console\n$ make test now\n$ make nothing  # x\n```\n";
        let faults = targets(readme, "up: build\n\t@x\ntest clean: y\n");
        assert_eq!(faults, ["README.md: the Makefile has no target `nothing`"]);
    }

    #[test]
    fn commands_are_taken_apart() {
        let readme = "| `ripstop up [--name local] [--nodes 3]` | x |\n`ripstop node stop\\|start NODE`\n\
                      ```\n$ target/release/ripstop check -o json   # words\n```\n`ripstop-cni`\n";
        let usage = |words: &[&str], options: &[&str]| Usage {
            words: words.iter().map(ToString::to_string).collect(),
            options: options.iter().map(ToString::to_string).collect(),
        };
        let expected = [
            usage(&["up"], &["--name", "--nodes"]),
            usage(&["node", "stop"], &[]),
            usage(&["node", "start"], &[]),
            usage(&["check"], &["-o"]),
        ];
        assert_eq!(commands(readme), expected.into());
    }

    #[test]
    fn links_in_prose_count_and_those_in_code_do_not() {
        let page = "[a](x.md) and `[b](y)` [c](https://example.org/z)\n```\n[d](w)\n```\n[e](#part)\n";
        assert_eq!(links(page), ["x.md", "#part"]);
        assert_eq!(anchor(" The way of the `data`!"), "the-way-of-the-data");
    }
}
