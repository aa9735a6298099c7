//! Traceroute over a real router: two hosts and a router as network namespaces.

use std::process::{Command, Output};

/// Namespaces that are removed at drop, and their links with them.
struct Path {
    names: [String; 3],
}

fn ip(arguments: &str) -> Output {
    Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap()
}

impl Path {
    /// near (10.91.1.1) - router (10.91.1.2, 10.91.2.1) - far (10.91.2.2); `None` without
    /// privilege.
    fn create() -> Option<Self> {
        let pid = std::process::id();
        let path = Self {
            names: ["n", "r", "f"].map(|name| format!("netml-sh-{pid}-{name}")),
        };
        let [near, router, far] = &path.names;
        let first = ip(&format!("netns add {near}"));
        if !first.status.success() {
            eprintln!("skipped: {}", String::from_utf8_lossy(&first.stderr).trim());
            return None;
        }
        for command in [
            format!("netns add {router}"),
            format!("netns add {far}"),
            format!("-n {near} link add up0 type veth peer name in0 netns {router}"),
            format!("-n {far} link add up0 type veth peer name in1 netns {router}"),
            format!("-n {near} addr add 10.91.1.1/24 dev up0"),
            format!("-n {router} addr add 10.91.1.2/24 dev in0"),
            format!("-n {router} addr add 10.91.2.1/24 dev in1"),
            format!("-n {far} addr add 10.91.2.2/24 dev up0"),
            format!("-n {near} link set up0 up"),
            format!("-n {router} link set in0 up"),
            format!("-n {router} link set in1 up"),
            format!("-n {far} link set up0 up"),
            format!("-n {far} link set lo up"),
            format!("-n {near} route add default via 10.91.1.2"),
            format!("-n {far} route add default via 10.91.2.1"),
            format!("netns exec {router} sysctl -qw net.ipv4.ip_forward=1"),
            // It would leave out every other answer.
            format!("netns exec {router} sysctl -qw net.ipv4.icmp_ratelimit=0"),
        ] {
            let done = ip(&command);
            let error = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "ip {command}: {error}");
        }
        Some(path)
    }

    /// Runs the agent on the near host; each hop's address, in order.
    fn trace(&self, wrapper: &[&str], target: &str) -> Vec<String> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.names[0]])
            .args(wrapper)
            .arg(env!("CARGO_BIN_EXE_netml-agent"))
            .args(["traceroute", target, "--hops", "5"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        text.lines()
            .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
            .collect()
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&format!("netns del {name}"));
        }
    }
}

#[test]
fn the_router_and_the_target_are_hops_with_and_without_raw_sockets() {
    let Some(path) = Path::create() else {
        return;
    };
    let hops = ["10.91.1.2", "10.91.2.2"];
    assert_eq!(path.trace(&[], "10.91.2.2"), hops);
    // A new namespace allows no ICMP sockets to users either: this is UDP and its error queue.
    let unprivileged = ["setpriv", "--bounding-set=-net_raw"];
    assert_eq!(path.trace(&unprivileged, "10.91.2.2"), hops);
    // The router knows no way there and says so, about once a second: the trace ends with it.
    let lost = path.trace(&[], "203.0.113.9");
    assert_eq!(lost.last().map(String::as_str), Some(hops[0]), "{lost:?}");
    assert!(lost.len() < 5, "{lost:?}");
}
