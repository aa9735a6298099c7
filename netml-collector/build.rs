//! Makes a changed or added dashboard file rebuild the crate that embeds it.

fn main() {
    println!("cargo:rerun-if-changed=src/store/sqlite/migrations");
    for path in ["../web/index.html", "../web/src", "../web/vendor"] {
        println!("cargo:rerun-if-changed={path}");
    }
}
