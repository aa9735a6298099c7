//! A report as one HTML page: no script, nothing from elsewhere, light and dark, narrow and wide.

use super::view::{Grid, Section};

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--ink:#1c2430;--soft:#566070;--line:#d5dae1;--one:#0b62a8;--two:#b3500b;--head:#f2f4f7;--shade:11,98,168}
@media(prefers-color-scheme:dark){:root{--ground:#14181e;--ink:#e4e8ee;--soft:#a3adba;--line:#39424e;--one:#6cb4f0;--two:#f2a25c;--head:#1e242c;--shade:108,180,240}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:72rem;background:var(--ground);color:var(--ink);font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .3rem}
p{margin:.3rem 0 .8rem;max-width:46rem;color:var(--soft)}
nav ul{padding:0;margin:.5rem 0;display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none}
a{color:var(--one)}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:.3rem}
.wide:focus-visible,a:focus-visible,summary:focus-visible{outline:2px solid var(--one);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}thead th{background:var(--head)}
tbody th{font-weight:400}tbody tr:last-child>*{border-bottom:0}
figure{margin:0 0 .8rem}svg{display:block;width:100%;height:auto}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}
svg .soft{fill:var(--soft)}svg .rule{stroke:var(--line);fill:none}svg .axis{stroke:var(--soft);fill:none}
svg .one{stroke:var(--one);fill:none;stroke-width:2}svg .two{stroke:var(--two);fill:none;stroke-width:2;stroke-dasharray:6 3}
svg .dot{fill:var(--one)}svg .bar{fill:var(--one)}svg .bar2{fill:var(--two)}
svg .shade{fill:rgb(var(--shade))}svg text.strong{fill:var(--ground)}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--one)}";

/// Rows from which a table is folded.
const LONG_ROWS: usize = 30;

/// The page.
#[must_use]
pub fn render(title: &str, sections: &[Section]) -> String {
    let title = escaped(title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    page += "<nav aria-label=\"Sections\"><ul>\n";
    for (at, section) in sections.iter().enumerate() {
        page += &format!(
            "<li><a href=\"#s{at}\">{}</a></li>\n",
            escaped(section.title)
        );
    }
    page += "</ul></nav>\n";
    for (at, section) in sections.iter().enumerate() {
        let title = escaped(section.title);
        page += &format!(
            "<section aria-labelledby=\"s{at}\">\n<h2 id=\"s{at}\">{title}</h2>\n<p>{}</p>\n",
            escaped(&section.note)
        );
        if let Some(plot) = &section.plot {
            page += &format!("<figure>\n{}</figure>\n", plot.svg(&format!("p{at}")));
        }
        let table = table(&section.grid, &title);
        if section.plot.is_some() || section.grid.rows.len() >= LONG_ROWS {
            page += &format!(
                "<details><summary>Table: {} rows</summary>\n{table}</details>\n",
                section.grid.rows.len()
            );
        } else {
            page += &table;
        }
        page += "</section>\n";
    }
    page + "</main>\n</body>\n</html>\n"
}

fn table(grid: &Grid, title: &str) -> String {
    let cells = |row: &[String], tag: &str| -> String {
        let cells = row
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
        cells.collect()
    };
    let head: String = grid
        .columns
        .iter()
        .map(|name| format!("<th scope=\"col\">{}</th>", escaped(name)))
        .collect();
    let mut text = format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\n<table>\n\
         <thead><tr>{head}</tr></thead>\n<tbody>\n"
    );
    for row in &grid.rows {
        let (first, rest) = row.split_at(row.len().min(1));
        let name = first.first().map_or(String::new(), |name| escaped(name));
        text += &format!(
            "<tr><th scope=\"row\">{name}</th>{}</tr>\n",
            cells(rest, "td")
        );
    }
    text + "</tbody>\n</table>\n</div>\n"
}

/// Text for an element or attribute.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
