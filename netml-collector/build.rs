//! Makes a changed or added dashboard file rebuild the crate that embeds it.

fn main() {
    println!("cargo:rerun-if-changed=src/store/sqlite/migrations");
    for path in ["index.html", "favicon.svg", "app", "styles", "vendor"] {
        println!("cargo:rerun-if-changed=../web/{path}");
    }
}
