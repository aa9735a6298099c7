//! A report as Markdown.

use super::view::Section;

/// Title of the document.
pub(super) const TITLE: &str = "Cross-validation of the model";

/// All sections, plots left out: their tables hold the same.
#[must_use]
pub fn render(sections: &[Section]) -> String {
    let mut text = format!("# {TITLE}\n");
    for section in sections {
        text += &format!("\n## {}\n{}\n\n", section.title, section.note);
        text += &line(&section.grid.columns);
        text += &format!("|{}\n", "---|".repeat(section.grid.columns.len()));
        for row in &section.grid.rows {
            text += &line(row);
        }
    }
    text
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}
