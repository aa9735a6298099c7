//! The namespaces of one scenario and the programs in them.
//!
//! ```text
//! a c w ── bridge "brout" ── tapout ══ wire (this process) ══ tapin ── bridge "brin" ── s i x
//! ```
//! Both bridges are in the namespace "net", which is also the gateway to 198.19.0.0/16 and
//! fd00:6e6d:6d::/64, where nobody answers but 14 addresses of each server's own /24. The gateway
//! stands on the other side of the wire than who asks, so that what is sent to nobody crosses it.
//! Nothing is made in the host's own namespace. Every program has a process tree, a `/tmp`, `/run`
//! and writable copies of `/etc`, `/var` and `/root` of its own, which end with it.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::scenario::{Host, Scenario};
use crate::lab::space::{NAME_PREFIX, NETNS_DIR, ip, ip_batch, mac_text, remove};
use crate::sys;

/// Longest wait for a server to listen.
const READY_PATIENCE: Duration = Duration::from_secs(90);
/// Namespace of bridges and gateway.
const NET: &str = "net";
/// Ends of the wire, in [`NET`].
pub(super) const WIRE_IN: &str = "tapin";
/// The same, on the outer side.
pub(super) const WIRE_OUT: &str = "tapout";

/// What every program finds: a place of its own, names of all hosts, words to guess with.
const SURROUNDINGS: &str = r#"
set -e
mount -t tmpfs -o size=512m,mode=1777 tmpfs /tmp
for d in etc var root; do
  mkdir -p /tmp/.lab/$d /tmp/.lab/$d-work
  mount -t overlay -o lowerdir=/$d,upperdir=/tmp/.lab/$d,workdir=/tmp/.lab/$d-work overlay /$d
done
mount -t tmpfs -o mode=755 tmpfs /run
cd /tmp
export HOME=/root LC_ALL=C
printf '127.0.0.1 localhost\n%s' "$hosts" >/etc/hosts
rm -f /etc/resolv.conf; printf 'nameserver %s\noptions timeout:2 attempts:2\n' "$resolver" >/etc/resolv.conf
printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n' >/etc/nsswitch.conf
# Names give the IPv4 address first: not every server listens on both.
echo 'precedence ::ffff:0:0/96 100' >/etc/gai.conf
mkdir -p /etc/ssh/ssh_config.d /root/.ssh
printf 'StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n' >/etc/ssh/ssh_config.d/lab.conf
seq -f 'word-%04g' 1 3000 >words
printf '%s\n' root admin test guest user oracle ftp pi ubnt support >users
set +e
"#;

/// Namespaces of one scenario; removed, with what still runs in them, when dropped.
pub(super) struct Site {
    prefix: String,
    hosts: Vec<Host>,
    resolver: String,
    logs: Option<PathBuf>,
    children: Vec<Child>,
}

impl Site {
    /// Makes the namespaces of a scenario. `logs` is the file its programs write to.
    ///
    /// # Errors
    /// The kernel refuses namespaces, veth pairs or bridges.
    pub(super) fn create(scenario: &Scenario, logs: Option<PathBuf>) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let hosts = scenario.hosts();
        let hosts: Vec<Host> = hosts
            .iter()
            .map(|name| Host::named(name))
            .collect::<Result<_, _>>()?;
        let resolver = scenario
            .servers
            .iter()
            .find(|(_, server)| server.resolves)
            .map_or(Ok("127.0.0.1".to_owned()), |(host, _)| {
                Host::named(host).map(|host| host.v4().to_string())
            })?;
        let site = Self {
            prefix: format!("{NAME_PREFIX}{}-c{number}-", std::process::id()),
            hosts,
            resolver,
            logs,
            children: Vec::new(),
        };
        site.build().context("cannot build the site")?;
        Ok(site)
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    fn file(&self, host: &str) -> PathBuf {
        Path::new(NETNS_DIR).join(self.name(host))
    }

    fn build(&self) -> anyhow::Result<()> {
        ip(&["netns", "add", &self.name(NET)])?;
        let net = self.name(NET);
        // Outside and inside share the /16, so the gateway's two ends have routes of their own.
        let mut script = String::from(
            "link set lo up\n\
             link add name brin type bridge\nlink add name brout type bridge\n\
             link add name wirein type veth peer name tapin\n\
             link add name wireout type veth peer name tapout\n\
             link set wirein master brin\nlink set wireout master brout\n",
        );
        let mut interfaces: Vec<String> = ["wirein", "wireout", "tapin", "tapout"]
            .map(str::to_owned)
            .into();
        for host in &self.hosts {
            ip(&["netns", "add", &self.name(&host.name)])?;
            let bridge = if host.is_inside() { "brin" } else { "brout" };
            writeln!(
                script,
                "link add name {0} type veth peer name eth0 netns {1} address {2}\n\
                 link set {0} master {bridge}",
                host.name,
                self.name(&host.name),
                mac_text(host.mac()),
            )?;
            interfaces.push(host.name.clone());
        }
        for interface in interfaces
            .iter()
            .map(String::as_str)
            .chain(["brin", "brout"])
        {
            writeln!(
                script,
                "link set {interface} addrgenmode none\nlink set {interface} up"
            )?;
        }
        script += "address add 198.18.0.254/32 dev brin\naddress add 198.18.0.253/32 dev brout\n\
                   address add fd00:6e6d:6c::fffe/128 dev brin nodad\n\
                   address add fd00:6e6d:6c::fffd/128 dev brout nodad\n\
                   route add 198.18.0.0/21 dev brin src 198.18.0.254\n\
                   route add 198.18.8.0/21 dev brout src 198.18.0.253\n\
                   route add 198.18.66.0/24 dev brout src 198.18.0.253\n\
                   route add unreachable 198.19.200.0/22\nroute add blackhole 198.19.0.0/16\n\
                   route add blackhole fd00:6e6d:6d::/64\n";
        for host in &self.hosts {
            if let Some(crowd) = host.crowd() {
                let bridge = if host.is_inside() { "brin" } else { "brout" };
                writeln!(
                    script,
                    "route add {crowd} via {} dev {bridge} onlink",
                    host.v4()
                )?;
            }
        }
        ip_batch(&net, &script)?;
        self.within(NET, move || {
            for interface in interfaces {
                sys::offloads_off(&interface).context("cannot turn offloads off")?;
            }
            for (setting, value) in [
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                ("ipv4/conf/all/send_redirects", "0"),
                ("ipv4/conf/brin/send_redirects", "0"),
                ("ipv4/conf/brout/send_redirects", "0"),
                ("ipv4/conf/all/arp_ignore", "1"),
                ("ipv4/conf/all/arp_announce", "2"),
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv4/conf/brin/rp_filter", "0"),
                ("ipv4/conf/brout/rp_filter", "0"),
            ] {
                std::fs::write(Path::new("/proc/sys/net").join(setting), value)
                    .with_context(|| format!("cannot set {setting}"))?;
            }
            Ok(())
        })?;
        for host in &self.hosts {
            self.build_host(host)?;
        }
        Ok(())
    }

    fn build_host(&self, host: &Host) -> anyhow::Result<()> {
        let (gateway, gateway6) = if host.is_inside() {
            ("198.18.0.253", "fd00:6e6d:6c::fffd")
        } else {
            ("198.18.0.254", "fd00:6e6d:6c::fffe")
        };
        let mut script = format!(
            "link set lo up\nlink set eth0 addrgenmode none\nlink set eth0 up\n\
             address add {}/16 broadcast + dev eth0\naddress add {}/64 dev eth0 nodad\n\
             route add 198.19.0.0/16 via {gateway}\nroute add 224.0.0.0/4 dev eth0\n\
             route add default via {gateway}\n\
             route add fd00:6e6d:6d::/64 via {gateway6}\n",
            host.v4(),
            host.v6(),
        );
        if let Some(crowd) = host.crowd() {
            writeln!(script, "route add local {crowd} dev lo")?;
        }
        ip_batch(&self.name(&host.name), &script)?;
        self.within(&host.name, || {
            sys::offloads_off("eth0").context("cannot turn offloads off")?;
            for setting in ["ipv4/ping_group_range", "ipv4/ip_unprivileged_port_start"] {
                let value = if setting.ends_with("range") {
                    "0 65535"
                } else {
                    "0"
                };
                std::fs::write(Path::new("/proc/sys/net").join(setting), value)?;
            }
            Ok(())
        })
    }

    /// Runs `body` on a new thread inside a namespace.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        host: &str,
        body: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
        let file = self.file(host);
        std::thread::Builder::new()
            .spawn(move || {
                sys::enter_netns(&file)
                    .with_context(|| format!("cannot enter {}", file.display()))?;
                body()
            })
            .context("cannot start a thread of the site")
    }

    /// Runs `body` in the namespace of bridges and wire, and gives its result.
    ///
    /// # Errors
    /// What `body` gives.
    pub(super) fn within_net<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.within(NET, body)
    }

    fn within<T: Send + 'static>(
        &self,
        host: &str,
        body: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        match self.spawn(host, body)?.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread of the site panicked"),
        }
    }

    /// Starts lines of sh at a host; gives the number of the program.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(&mut self, host: &str, script: &str) -> anyhow::Result<usize> {
        let output = || -> anyhow::Result<Stdio> {
            let Some(path) = &self.logs else {
                return Ok(Stdio::null());
            };
            let file = File::options().create(true).append(true).open(path)?;
            Ok(file.into())
        };
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.file(host).display()))
            .args([
                "--", "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork",
            ])
            .args(["--kill-child", "--mount-proc", "--", "sh", "-c"])
            .arg(format!("{SURROUNDINGS}\nhostname {host}\n{script}"))
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?);
        let mut names = String::new();
        for host in &self.hosts {
            writeln!(
                names,
                "{} {n} {n}.example\n{} {n}",
                host.v4(),
                host.v6(),
                n = host.name
            )?;
            command.env(&host.name, host.v4().to_string());
            command.env(format!("{}_6", host.name), host.v6().to_string());
        }
        command.env("hosts", names).env("resolver", &self.resolver);
        sys::tie_to_parent(&mut command);
        let child = command
            .spawn()
            .context("cannot run nsenter: install util-linux")?;
        self.children.push(child);
        Ok(self.children.len() - 1)
    }

    /// Waits until something listens on a port of a host, TCP or UDP.
    ///
    /// # Errors
    /// Nothing does in time, or its program ended.
    pub(super) fn wait_for_port(
        &mut self,
        host: &str,
        port: u16,
        program: usize,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_PATIENCE;
        let name = self.name(host);
        while Instant::now() < deadline && !sys::stop_requested() {
            let listed = Command::new("ip")
                .args(["netns", "exec", &name, "ss", "-Hlntu"])
                .output()
                .context("cannot run ss")?;
            let listed = String::from_utf8_lossy(&listed.stdout);
            let ends = |line: &str| {
                let local = line.split_whitespace().nth(4).unwrap_or_default();
                local.rsplit(':').next() == Some(port.to_string().as_str())
            };
            if listed.lines().any(ends) {
                return Ok(());
            }
            ensure!(
                !self.has_ended(program)?,
                "the server at {host} for port {port} ended at once"
            );
            std::thread::sleep(Duration::from_millis(150));
        }
        bail!("nothing listens on port {port} of {host}")
    }

    /// True once a program is done.
    ///
    /// # Errors
    /// The kernel does not know it.
    pub(super) fn has_ended(&mut self, program: usize) -> anyhow::Result<bool> {
        match self.children.get_mut(program) {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The end of `unshare` ends the whole process tree of its namespace.
        for child in &mut self.children {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(|_| ())) {
                eprintln!("lab: cannot end a program: {error}");
            }
        }
        let hosts: Vec<String> = self.hosts.iter().map(|host| host.name.clone()).collect();
        for host in hosts.iter().map(String::as_str).chain([NET]) {
            if let Err(error) = remove(&self.name(host)) {
                eprintln!("lab: {error:#}");
            }
        }
    }
}
