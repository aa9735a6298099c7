//! The namespaces of the lab and the wires between them.
//!
//! ```text
//!   client ── eth0 ┐
//! attacker ── eth0 ┼─ bridge in "net" (gateway, drops what it is given) ── server ── eth0 server
//! ```
//! The sensor watches `eth0` of the server. The other end of that wire, `server` in "net", keeps
//! the link counters to compare with. Nothing is made in the host's own namespace: no interface,
//! address or route, and its settings are not touched. Addresses are of 198.18.0.0/15 (RFC 2544)
//! and fd00::/8 (RFC 4193).

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, bail, ensure};

use crate::sys;

/// Where `ip netns` keeps the names.
pub(super) const NETNS_DIR: &str = "/run/netns";
/// Every namespace of a lab is called `netml-lab-<pid>-<number>-<space>`.
pub(super) const NAME_PREFIX: &str = "netml-lab-";
/// Addresses of the client, one for each scenario and some to spare.
pub(crate) const CLIENT_HOSTS: u8 = 40;
/// Addresses of the attacker, one for each scenario and some to spare.
pub(crate) const ATTACKER_HOSTS: u8 = 30;
/// Stack of a worker thread: they hold small buffers only.
const STACK_BYTES: usize = 256 * 1024;

/// One namespace of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// The switch and gateway.
    Net,
    /// The watched host.
    Server,
    /// Ordinary peers: users of the server and the "internet" the server talks to.
    Client,
    /// Everything malicious, and the far end of what an infected server does.
    Attacker,
}

impl Space {
    const ALL: [Self; 4] = [Self::Net, Self::Server, Self::Client, Self::Attacker];

    const fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Server => "server",
            Self::Client => "client",
            Self::Attacker => "attacker",
        }
    }

    /// Last byte of the MAC address of `eth0`.
    const fn number(self) -> u8 {
        match self {
            Self::Net => 254,
            Self::Server => 1,
            Self::Client => 2,
            Self::Attacker => 3,
        }
    }

    /// Locally administered MAC address of `eth0`.
    pub(crate) const fn mac(self) -> [u8; 6] {
        [0x02, 0x6e, 0x6d, 0x6c, 0, self.number()]
    }
}

/// Address of the watched server.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same in IPv6.
pub(crate) const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6e6d, 0x6c, 0, 0, 0, 0, 1);

/// The n-th address of the ordinary peers.
#[must_use]
pub(crate) const fn client(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 1, n)
}

/// The n-th IPv6 address of the ordinary peers.
#[must_use]
pub(crate) const fn client6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x6e6d, 0x6c, 0, 0, 0, 1, n as u16)
}

/// The n-th address of the attacker.
#[must_use]
pub(crate) const fn attacker(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 66, n)
}

/// First two bytes of invented sources of floods; answers go to the gateway, which drops them.
pub(crate) const SPOOFED_PREFIX: [u8; 2] = [198, 19];

/// True for an address whose traffic in the lab is malicious: the attacker's or an invented one.
#[must_use]
pub(crate) fn is_malicious(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [a, b] == SPOOFED_PREFIX || [a, b, c] == [198, 18, 66]
        }
        IpAddr::V6(_) => false,
    }
}

/// Segmentation, aggregation and checksum offload of the lab's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offloads {
    /// One frame is one wire packet.
    Off,
    /// As veth has them: super-packets up to 64 KB.
    On,
}

/// Link counters of an interface (`ip -s link`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkCounters {
    /// Packets received.
    pub(crate) rx_packets: u64,
    /// Bytes received, from the Ethernet header on.
    pub(crate) rx_bytes: u64,
    /// Packets sent.
    pub(crate) tx_packets: u64,
    /// Bytes sent, from the Ethernet header on.
    pub(crate) tx_bytes: u64,
}

/// A lab's namespaces; removed when dropped, unless kept.
#[derive(Debug)]
pub(crate) struct Lab {
    prefix: String,
    keep: bool,
}

impl Lab {
    /// Makes the namespaces and wires, after removing those of labs whose process is gone.
    ///
    /// # Errors
    /// Not root, no `ip` command, or the kernel refuses namespaces or veth pairs.
    pub(crate) fn create(offloads: Offloads) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        ensure!(
            sys::is_root(),
            "the lab makes network namespaces, which needs root: run it as root or with sudo"
        );
        remove_stale()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("{NAME_PREFIX}{}-{number}-", std::process::id()),
            keep: false,
        };
        lab.build(offloads).context("cannot build the lab")?;
        Ok(lab)
    }

    /// Leaves the namespaces in place at the end, for a look inside; the next lab removes them.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    /// Name of a namespace, as `ip netns exec` takes it.
    #[must_use]
    pub(crate) fn name(&self, space: Space) -> String {
        format!("{}{}", self.prefix, space.name())
    }

    /// Runs `body` on a new thread inside a namespace; what it starts is inside as well.
    ///
    /// # Errors
    /// The thread cannot be started. Failing to enter is the thread's result.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        space: Space,
        body: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
        let file = PathBuf::from(NETNS_DIR).join(self.name(space));
        std::thread::Builder::new()
            .name(format!("lab-{}", space.name()))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                sys::enter_netns(&file)
                    .with_context(|| format!("cannot enter {}", file.display()))?;
                body()
            })
            .context("cannot start a thread of the lab")
    }

    /// Runs `body` inside a namespace and waits for its result.
    ///
    /// # Errors
    /// What `body` gives, or that it panicked.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        space: Space,
        body: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        match self.spawn(space, body)?.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread of the lab panicked"),
        }
    }

    /// Counters of the wire's end opposite the watched interface: what it received is what the
    /// server sent.
    ///
    /// # Errors
    /// `ip` fails or answers something else than expected.
    pub(crate) fn peer_counters(&self) -> anyhow::Result<LinkCounters> {
        let net = self.name(Space::Net);
        let output = Command::new("ip")
            .args(["-n", &net, "-j", "-s", "link", "show", "dev", "server"])
            .output()
            .context("cannot run ip")?;
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("ip gave no JSON")?;
        let number = |way: &str, what: &str| {
            json[0]["stats64"][way][what]
                .as_u64()
                .with_context(|| format!("ip gave no {way} {what}"))
        };
        Ok(LinkCounters {
            rx_packets: number("rx", "packets")?,
            rx_bytes: number("rx", "bytes")?,
            tx_packets: number("tx", "packets")?,
            tx_bytes: number("tx", "bytes")?,
        })
    }

    fn build(&self, offloads: Offloads) -> anyhow::Result<()> {
        for space in Space::ALL {
            ip(&["netns", "add", &self.name(space)])?;
        }
        let net = self.name(Space::Net);
        for space in [Space::Server, Space::Client, Space::Attacker] {
            let name = self.name(space);
            ip(&[
                "link",
                "add",
                "name",
                "eth0",
                "netns",
                &name,
                "address",
                &mac_text(space.mac()),
                "type",
                "veth",
                "peer",
                "name",
                space.name(),
                "netns",
                &net,
            ])?;
        }
        let gateway_mac = mac_text(Space::Net.mac());
        let mut script = format!(
            "link add name br0 address {gateway_mac} type bridge\n\
             link set br0 addrgenmode none\nlink set lo up\nlink set br0 up\n\
             address add 198.18.0.254/17 dev br0\n"
        );
        for space in [Space::Server, Space::Client, Space::Attacker] {
            let port = space.name();
            script += &format!(
                "link set {port} addrgenmode none\nlink set {port} master br0\nlink set {port} up\n"
            );
        }
        ip_batch(&net, &script)?;
        ip_batch(
            &self.name(Space::Server),
            &host_script(&[SERVER], &[SERVER6]),
        )?;
        let clients: Vec<_> = (1..=CLIENT_HOSTS).map(client).collect();
        let clients6: Vec<_> = (1..=CLIENT_HOSTS).map(client6).collect();
        ip_batch(&self.name(Space::Client), &host_script(&clients, &clients6))?;
        let attackers: Vec<_> = (1..=ATTACKER_HOSTS).map(attacker).collect();
        ip_batch(&self.name(Space::Attacker), &host_script(&attackers, &[]))?;
        if offloads == Offloads::Off {
            for space in [Space::Server, Space::Client, Space::Attacker] {
                self.within(space, || {
                    sys::offloads_off("eth0").context("cannot turn offloads off")
                })?;
            }
            self.within(Space::Net, || {
                for port in ["server", "client", "attacker"] {
                    sys::offloads_off(port).context("cannot turn offloads off")?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("lab: kept {}*; the next lab removes it", self.prefix);
            return;
        }
        for space in Space::ALL {
            if let Err(error) = remove(&self.name(space)) {
                eprintln!("lab: {error:#}");
            }
        }
    }
}

/// Removes the namespaces of labs whose process is gone.
///
/// # Errors
/// `ip` cannot be run.
pub(crate) fn remove_stale() -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(NETNS_DIR) else {
        return Ok(()); // No namespace was ever named on this host.
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(NAME_PREFIX) else {
            continue;
        };
        let owner = rest.split('-').next().unwrap_or_default();
        if !is_lab_process(owner) {
            remove(&name)?;
        }
    }
    Ok(())
}

/// True while a process of this id runs this program; ids are reused by others.
fn is_lab_process(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("xtask"))
}

pub(super) fn remove(name: &str) -> anyhow::Result<()> {
    if !PathBuf::from(NETNS_DIR).join(name).exists() {
        return Ok(());
    }
    ip(&["netns", "del", name])
}

pub(super) fn mac_text(mac: [u8; 6]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// Brings up a host with its addresses; everything off the lab's /17 goes to the gateway.
fn host_script(v4: &[Ipv4Addr], v6: &[Ipv6Addr]) -> String {
    let mut script =
        String::from("link set lo up\nlink set eth0 addrgenmode none\nlink set eth0 up\n");
    for address in v4 {
        script += &format!("address add {address}/17 dev eth0\n");
    }
    for address in v6 {
        script += &format!("address add {address}/64 dev eth0 nodad\n");
    }
    script + "route add default via 198.18.0.254\n"
}

pub(super) fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot run ip: install iproute2 (cargo xtask setup)")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

pub(super) fn ip_batch(namespace: &str, script: &str) -> anyhow::Result<()> {
    let mut child = Command::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip: install iproute2 (cargo xtask setup)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "ip -n {namespace}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
