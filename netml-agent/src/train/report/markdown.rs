//! A report as Markdown.

use super::view::Section;

/// All sections, plots left out: their tables hold the same.
#[must_use]
pub fn render(title: &str, sections: &[Section]) -> String {
    let mut text = format!("# {title}\n");
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
