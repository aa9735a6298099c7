//! Ordinary scenarios, among them the noisy ones that look like attacks and are none. Each is made
//! over two paths.

use super::scenario::{Course, FAR, LAN, Scenario, WAN, WLAN, benign};
use super::servers::{
    CONTROL, DNS, FTP, GIT, IMAP, IPERF, IRC, MARIADB, MEMCACHED, MQTT, POSTGRES, PROXY, REDIS,
    RSYNC, SIP, SMB, SMTP, SNMP, SQUID, SSH, SUBMISSION, SYSLOG, Server, TELNET, TFTP, TIME,
    TRACKER, UNBOUND, VNC, WEB,
};

/// Name, kind, hosts and what they serve, hosts and what they run, seconds.
type Entry = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static Server)],
    &'static [(&'static str, &'static str)],
    u64,
);

/// Pairs of paths, taken in turn.
const COURSES: [[Course; 2]; 4] = [[LAN, WAN], [WLAN, FAR], [LAN, FAR], [WAN, WLAN]];

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (index, (name, kind, servers, clients, seconds)) in ENTRIES.iter().enumerate() {
        for course in COURSES[index % COURSES.len()] {
            let mut one = benign(format!("{name}-{}", course.name), kind)
                .over(course)
                .seconds(*seconds);
            for (hosts, server) in *servers {
                one = one.serve(hosts, server);
            }
            for (hosts, script) in *clients {
                one = one.run(hosts, script);
            }
            // A peer at rest, so that broadcasts and names have somebody else.
            all.push(one.idle("i9"));
        }
    }
    all
}

/// Makes the same data and the same torrent everywhere.
macro_rules! torrent {
    ($rest:literal) => {
        concat!(
            "mkdir d; cd d; seq 1 900000 >data; mktorrent -q -d -l 16 -a http://$s9:6969/announce -o t.torrent data 2>/dev/null || mktorrent -d -l 16 -a http://$s9:6969/announce -o t.torrent data; ",
            $rest
        )
    };
}

const ENTRIES: &[Entry] = &[
    // Web.
    (
        "web-browse",
        "web",
        &[("s1 s2", &WEB)],
        &[(
            "c1 c2 c3",
            "for n in $(seq 1 25); do curl -s -o /dev/null http://s1/p$n.html -o /dev/null http://s1/f$n -o /dev/null http://s2/f$((n + 9)); sleep $((n % 4)).2; done",
        )],
        40,
    ),
    (
        "web-tls",
        "web",
        &[("w1 w2 w3", &WEB), ("w9", &DNS)],
        &[(
            "i1 i2 i3 i4",
            "for n in $(seq 1 25); do dig +short host$n.example @$w9 >/dev/null; curl -sk -o /dev/null https://w$((n % 3 + 1))/p$n.html -o /dev/null https://w$((n % 3 + 1))/f$n; sleep $((n * 3 % 4)).4; done",
        )],
        45,
    ),
    (
        "web-mirror",
        "web",
        &[("s1", &WEB)],
        &[("c1", "wget -q -r -l 4 -p -e robots=off http://s1/")],
        30,
    ),
    (
        "web-crawl-polite",
        "web",
        &[("s1 s2 s3", &WEB)],
        &[(
            "c1",
            "for r in 1 2; do for h in s1 s2 s3; do wget -q -r -l 2 -w 0.2 --random-wait -e robots=off -U 'bot/1.0' http://$h/; done; done",
        )],
        50,
    ),
    (
        "web-crawl-many-hosts",
        "web",
        &[("s1 s2 s3", &WEB)],
        &[(
            "c1",
            "for n in $(seq 1 120); do curl -s -m 2 -o /dev/null http://198.19.$((n % 3 + 1)).$((n % 14 + 1))/p$((n % 40 + 1)).html; sleep 0.1; done",
        )],
        45,
    ),
    (
        "web-parallel",
        "web",
        &[("s1", &WEB)],
        &[(
            "c1 c2",
            "for n in 1 2 3 4 5 6 7 8; do for m in $(seq 1 12); do curl -s -o /dev/null http://s1/f$((n + m)) & done; wait; sleep 2; done",
        )],
        40,
    ),
    (
        "web-nat",
        "web",
        &[("s1 s2 s3", &WEB), ("s9", &DNS)],
        &[(
            "c1",
            "for u in $(seq 1 14); do (for n in $(seq 1 16); do dig +short host$n.example @$s9 >/dev/null; curl -sk -o /dev/null https://s$(((n + u) % 3 + 1))/p$(((n * u) % 40 + 1)).html; sleep $((n * u % 4)).$((u % 9)); done) & done; wait",
        )],
        50,
    ),
    (
        "web-nat-mixed",
        "web",
        &[
            ("w1", &WEB),
            ("w2", &IMAP),
            ("w3", &SSH),
            ("w4", &FTP),
            ("w9", &DNS),
        ],
        &[(
            "i1",
            "(for n in $(seq 1 20); do curl -s -o /dev/null http://w1/p$n.html; sleep 1; done) & (for n in $(seq 1 6); do curl -s -u u:right-1 imap://w2/INBOX; sleep 5; done) & (for n in 1 2 3; do sshpass -p right-1 ssh lab@w3 'ls; sleep 6'; done) & (for n in 1 2 3 4; do curl -s -o /dev/null -u lab:right-1 ftp://w4/file$n; sleep 4; done) & (for n in $(seq 1 40); do dig +short host$n.example @$w9 >/dev/null; sleep 0.7; done) & wait",
        )],
        45,
    ),
    (
        "web-load-modest",
        "web",
        &[("s1", &WEB)],
        &[(
            "c1",
            "ab -q -n 900 -c 3 http://$s1/p2.html; sleep 1; ab -q -n 600 -c 2 -k http://$s1/f4",
        )],
        30,
    ),
    (
        "web-load-wrk",
        "web",
        &[("s1", &PROXY)],
        &[(
            "c1",
            "wrk -t 1 -c 4 -d 6 http://$s1/; sleep 2; httperf --server $s1 --port 80 --uri / --rate 30 --num-conns 500 --timeout 3",
        )],
        30,
    ),
    (
        "web-load-siege",
        "web",
        &[("s1", &WEB)],
        &[("c1", "siege -q -d 1 -c 15 -t 25S http://$s1/p3.html")],
        30,
    ),
    (
        "web-api-poll",
        "web",
        &[("w1", &WEB)],
        &[(
            "i1 i2 i3",
            "for n in $(seq 1 80); do curl -s -o /dev/null http://w1/task?n=$n; sleep 0.5; done",
        )],
        45,
    ),
    (
        "web-app-heartbeat",
        "web",
        &[("w1 w2", &WEB)],
        &[(
            "i1 i2 i3 i4 i5",
            "for n in $(seq 1 16); do curl -sk -o /dev/null https://w$((n % 2 + 1))/none; sleep 4.$((n % 9)); done",
        )],
        75,
    ),
    (
        "web-long-poll",
        "web",
        &[("w1", &WEB)],
        &[(
            "i1 i2",
            "for n in 1 2 3 4 5 6; do curl -s -m 9 -o /dev/null http://w1/slow; done",
        )],
        50,
    ),
    (
        "web-upload",
        "web",
        &[("w1", &WEB)],
        &[(
            "i1 i2",
            "head -c 900000 /dev/urandom >f; for n in 1 2 3 4; do curl -sk -o /dev/null --data-binary @f https://w1/post; sleep 3; done",
        )],
        35,
    ),
    (
        "web-video",
        "web",
        &[("w1", &WEB)],
        &[(
            "i1 i2",
            "o=0; for n in $(seq 1 22); do curl -s -o /dev/null -r $o-$((o + 350000)) http://w1/large; o=$((o + 350001)); sleep 1.4; done",
        )],
        45,
    ),
    (
        "web-video-tls",
        "web",
        &[("w1", &WEB)],
        &[(
            "i1",
            "o=0; for n in $(seq 1 22); do curl -sk -o /dev/null -r $o-$((o + 500000)) https://w1/large; o=$((o + 500001)); sleep 1.9; done",
        )],
        45,
    ),
    (
        "web-radio",
        "web",
        &[("w1", &WEB)],
        &[(
            "i1 i2 i3",
            "curl -s -m 35 -o /dev/null --limit-rate 24k http://w1/large",
        )],
        40,
    ),
    (
        "web-proxy",
        "web",
        &[("w1 w2", &WEB), ("w3", &SQUID)],
        &[(
            "i1 i2 i3",
            "for n in $(seq 1 30); do curl -s -o /dev/null -x http://w3:3128 http://$w1/p$n.html; curl -sk -o /dev/null -x http://w3:3128 https://$w2/f$n; sleep 1; done",
        )],
        45,
    ),
    (
        "web-not-found",
        "web",
        &[("s1", &WEB)],
        &[(
            "c1",
            "for n in $(seq 1 60); do curl -s -o /dev/null http://s1/favicon$n.ico http://s1/f$((n % 40 + 1)); sleep 0.4; done",
        )],
        40,
    ),
    (
        "web-password-typed-wrong",
        "web",
        &[("s1", &WEB)],
        &[(
            "c1 c2",
            "for w in a b; do curl -s -o /dev/null -u lab:$w http://s1/private/; sleep 4; done; for n in 1 2 3 4 5 6; do curl -s -o /dev/null -u lab:right-1 http://s1/private/ http://s1/f$n; sleep 3; done",
        )],
        40,
    ),
    (
        "web-6",
        "web",
        &[("s1 s2", &WEB)],
        &[(
            "c1 c2",
            "for n in $(seq 1 30); do curl -s -g -o /dev/null http://[$s1_6]/p$n.html http://[$s1_6]/f$n; curl -skg -o /dev/null https://[$s2_6]/f$n; sleep 0.6; done",
        )],
        35,
    ),
    (
        "web-updates",
        "bulk",
        &[("w1", &WEB)],
        &[(
            "i1 i2",
            "curl -s -o /dev/null http://w1/f1 -o /dev/null http://w1/f2; for n in $(seq 3 40); do curl -s -o /dev/null http://w1/f$n; done; curl -s -o /dev/null http://w1/middle",
        )],
        40,
    ),
    (
        "web-updates-busy",
        "bulk",
        &[("w1", &WEB)],
        &[(
            "i1 i2 i3 i4 i5",
            "wget -q -O /dev/null http://w1/middle http://w1/f7 http://w1/f8 http://w1/f9 http://w1/middle",
        )],
        40,
    ),
    (
        "web-big-download",
        "bulk",
        &[("w1", &WEB)],
        &[
            ("i1", "curl -s -o /dev/null http://w1/large"),
            (
                "i2",
                "aria2c -q -x 5 -s 5 --allow-overwrite=true -o x http://$w1/large",
            ),
        ],
        30,
    ),
    (
        "git",
        "bulk",
        &[("w1", &GIT), ("w2", &WEB)],
        &[(
            "i1 i2",
            "for n in 1 2 3 4; do git clone -q git://w1/r.git r$n; sleep 2; (cd r$n && git fetch -q); curl -s -o /dev/null http://w2/p$n.html; done",
        )],
        35,
    ),
    // Files.
    (
        "ftp-fetch",
        "ftp",
        &[("s1", &FTP)],
        &[(
            "c1 c2",
            "for n in 1 2 3 4 5 6; do curl -s -o /dev/null -u lab:right-1 ftp://s1/file$n; sleep 2; done",
        )],
        35,
    ),
    (
        "ftp-mirror",
        "ftp",
        &[("s1", &FTP)],
        &[(
            "c1",
            "lftp -u lab,right-1 -e 'set net:timeout 5; mirror -P 3 . m; bye' s1",
        )],
        30,
    ),
    (
        "ftp-upload",
        "ftp",
        &[("s1", &FTP)],
        &[
            (
                "c1",
                "for n in 1 2 3 4 5 6 7 8; do head -c $((n * 50000)) /dev/urandom >u; curl -s -u lab:right-1 -T u ftp://s1/u$n; sleep 1; done",
            ),
            (
                "c2",
                "for w in wrong right-1 right-1; do curl -s -u lab:$w ftp://s1/; sleep 5; done",
            ),
        ],
        35,
    ),
    (
        "ftp-many-users",
        "ftp",
        &[("s1", &FTP)],
        &[(
            "c1 c2 c3 c4 c5 c6",
            "for n in 1 2 3 4 5; do curl -s -o /dev/null -u lab:right-1 ftp://s1/file$n; sleep 3; done",
        )],
        35,
    ),
    (
        "tftp-boot",
        "ftp",
        &[("s1", &TFTP)],
        &[(
            "c1 c2 c3",
            "for n in 1 2 3; do tftp $s1 -c get image; sleep 2; done",
        )],
        25,
    ),
    (
        "smb-copy",
        "smb",
        &[("s1", &SMB)],
        &[(
            "c1 c2",
            "for n in 1 2 3 4 5 6; do smbclient //s1/share -U lab%right-1 -c \"ls; get doc$n; put words w$n\"; sleep 2; done",
        )],
        35,
    ),
    (
        "smb-office",
        "smb",
        &[("s1 s2", &SMB)],
        &[(
            "c1 c2 c3 c4",
            "(for n in $(seq 1 12); do echo ls; echo get doc$((n % 6 + 1)); sleep 2; done) | smbclient //s$((RANDOM % 2 + 1))/share -U lab%right-1 2>/dev/null || (for n in $(seq 1 12); do echo ls; echo \"get doc$((n % 6 + 1))\"; sleep 2; done) | smbclient //s1/share -U lab%right-1",
        )],
        40,
    ),
    (
        "smb-typed-wrong",
        "smb",
        &[("s1", &SMB)],
        &[
            (
                "c1",
                "for w in bad bad2 right-1 right-1 right-1; do smbclient //s1/share -U lab%$w -c 'ls; get doc2'; sleep 4; done",
            ),
            (
                "c2",
                "for n in 1 2 3; do smbclient -L //s1 -U lab%right-1; sleep 5; done",
            ),
        ],
        35,
    ),
    (
        "rsync-daemon",
        "bulk",
        &[("s1", &RSYNC)],
        &[(
            "c1",
            "for n in 1 2 3; do rsync -a rsync://s1/data/ d$n/; sleep 2; done; rsync -a d1/ rsync://s1/data/new/",
        )],
        35,
    ),
    (
        "rsync-ssh-backup",
        "bulk",
        &[("s1", &SSH)],
        &[(
            "c1",
            "mkdir b; for n in $(seq 1 30); do head -c $((n * 9000)) /dev/urandom >b/f$n; done; for n in 1 2 3; do sshpass -p right-1 rsync -a b/ lab@s1:b/; sleep 3; head -c 80000 /dev/urandom >b/f$n; done",
        )],
        40,
    ),
    (
        "backup-tar",
        "bulk",
        &[("s1 s2", &SSH)],
        &[(
            "c1",
            "head -c 2500000 /dev/urandom >b; for h in s1 s2; do sshpass -p right-1 ssh lab@$h 'cat >x' <b; sleep 2; done",
        )],
        30,
    ),
    (
        "scp-sftp",
        "ssh",
        &[("s1", &SSH)],
        &[(
            "c1 c2",
            "for n in 1 2 3 4; do sshpass -p right-1 scp lab@s1:small x$n; sshpass -p right-1 scp words lab@s1:w$n; sleep 2; done; printf 'ls\\nget big\\nput words\\n' | sshpass -p right-1 sftp lab@s1",
        )],
        35,
    ),
    // Shells.
    (
        "ssh-typing",
        "ssh",
        &[("s1", &SSH)],
        &[(
            "c1 c2",
            "(for n in $(seq 1 14); do for k in l s ' ' - l; do printf \"$k\"; sleep 0.25; done; echo; sleep 1; done; echo exit) | sshpass -p right-1 ssh -tt lab@s1",
        )],
        45,
    ),
    (
        "ssh-commands",
        "ssh",
        &[("s1 s2 s3", &SSH)],
        &[(
            "c1",
            "for r in 1 2 3; do for h in s1 s2 s3; do sshpass -p right-1 ssh lab@$h 'uptime; df; ls -la'; sleep 2; done; done",
        )],
        40,
    ),
    (
        "ssh-automation",
        "ssh",
        &[("s1 s2 s3 s4 s5", &SSH)],
        &[(
            "c1",
            "for r in 1 2 3; do for h in s1 s2 s3 s4 s5; do sshpass -p right-1 ssh lab@$h 'uname -a; head -c 4000 /dev/urandom | od >/dev/null; cat small | wc -c' & done; wait; sleep 5; done",
        )],
        40,
    ),
    (
        "ssh-typed-wrong",
        "ssh",
        &[("s1", &SSH)],
        &[(
            "c1 c2 c3",
            "sshpass -p oops ssh -o NumberOfPasswordPrompts=1 lab@s1 true; sleep 3; sshpass -p oops2 ssh -o NumberOfPasswordPrompts=1 lab@s1 true; sleep 3; sshpass -p right-1 ssh lab@s1 'for n in 1 2 3 4 5 6 7 8; do ls; sleep 2; done'",
        )],
        40,
    ),
    (
        "ssh-forward",
        "ssh",
        &[("s1", &SSH), ("s2", &WEB)],
        &[(
            "c1",
            "sshpass -p right-1 ssh -N -L 9000:s2:80 lab@s1 & sleep 3; for n in $(seq 1 20); do curl -s -o /dev/null http://127.0.0.1:9000/p$n.html http://127.0.0.1:9000/f$n; sleep 1; done",
        )],
        35,
    ),
    (
        "ssh-socks-proxy",
        "ssh",
        &[("w1", &SSH), ("w2", &WEB)],
        &[(
            "i1",
            "sshpass -p right-1 ssh -N -D 9001 lab@w1 & sleep 3; for n in $(seq 1 20); do curl -sk -x socks5h://127.0.0.1:9001 -o /dev/null https://w2/f$n; sleep 0.8; done",
        )],
        35,
    ),
    (
        "ssh-keepalive",
        "ssh",
        &[("s1", &SSH)],
        &[(
            "c1 c2 c3",
            "sshpass -p right-1 ssh -o ServerAliveInterval=2 lab@s1 'sleep 45'",
        )],
        50,
    ),
    (
        "ssh-6",
        "ssh",
        &[("s1", &SSH)],
        &[(
            "c1",
            "for n in 1 2 3 4 5 6; do sshpass -p right-1 ssh -6 lab@s1 'ls -la; uptime; sleep 1'; sleep 2; done",
        )],
        35,
    ),
    (
        "telnet-menu",
        "ssh",
        &[("s1", &TELNET), ("s2", &CONTROL)],
        &[(
            "c1",
            "for n in 1 2 3; do (sleep 1; echo joe; sleep 2; echo pass; sleep 3) | timeout 10 ncat s1 23; done; (for n in $(seq 1 20); do echo STATUS $n; sleep 0.7; done) | ncat s2 4444",
        )],
        50,
    ),
    (
        "vnc",
        "rdp",
        &[("s1", &VNC)],
        &[
            (
                "c1",
                "Xvfb :8 -screen 0 1024x768x16 -nolisten tcp & sleep 2; DISPLAY=:8 timeout 25 xtightvncviewer -viewonly s1:0 & sleep 27",
            ),
            (
                "c2",
                "sleep 8; Xvfb :7 -screen 0 1024x768x16 -nolisten tcp & sleep 2; DISPLAY=:7 timeout 15 xtightvncviewer s1:0 & sleep 17",
            ),
        ],
        35,
    ),
    // Data bases.
    (
        "redis-short",
        "database",
        &[("s1", &REDIS)],
        &[(
            "c1 c2",
            "for n in $(seq 1 150); do redis-cli -h s1 set k$n $n; redis-cli -h s1 get k$n; sleep 0.1; done",
        )],
        35,
    ),
    (
        "redis-bench",
        "database",
        &[("s1", &REDIS)],
        &[(
            "c1",
            "redis-benchmark -h $s1 -c 10 -n 3000 -t get,set,lpush -q; redis-benchmark -h $s1 -c 3 -n 400 -k 0 -t get -q",
        )],
        30,
    ),
    (
        "redis-pool",
        "database",
        &[("s1", &REDIS)],
        &[(
            "c1 c2 c3",
            "(for n in $(seq 1 120); do echo incr a; sleep 0.2; done) | redis-cli -h s1",
        )],
        35,
    ),
    (
        "postgres-short",
        "database",
        &[("s1", &POSTGRES)],
        &[(
            "c1 c2",
            "for n in $(seq 1 60); do psql -q -h s1 -U postgres -c 'select count(*) from pg_class' -o /dev/null; sleep 0.3; done",
        )],
        40,
    ),
    (
        "postgres-work",
        "database",
        &[("s1", &POSTGRES)],
        &[(
            "c1",
            "P=/usr/lib/postgresql/15/bin/pgbench; $P -q -i -h $s1 -U postgres postgres; $P -h $s1 -U postgres -c 4 -T 8 -R 60 postgres; $P -C -h $s1 -U postgres -c 2 -T 8 -R 20 postgres",
        )],
        45,
    ),
    (
        "mariadb-short",
        "database",
        &[("s1", &MARIADB)],
        &[(
            "c1 c2",
            "for n in $(seq 1 60); do mariadb -h s1 -u lab -pright-1 -e 'select table_name from information_schema.tables limit 40' >/dev/null; sleep 0.3; done",
        )],
        40,
    ),
    (
        "mariadb-session",
        "database",
        &[("s1", &MARIADB)],
        &[
            (
                "c1 c2 c3",
                "(echo 'create table if not exists shop.t(a int,b text);'; for n in $(seq 1 60); do echo \"insert into shop.t values($n,repeat('x',$((n * 20))));select * from shop.t limit $n;\"; sleep 0.4; done) | mariadb -h s1 -u lab -pright-1 >/dev/null",
            ),
            (
                "c4",
                "for w in bad right-1 right-1; do mariadb -h s1 -u lab -p$w -e 'select 1'; sleep 5; done",
            ),
        ],
        40,
    ),
    (
        "memcached",
        "database",
        &[("s1", &MEMCACHED)],
        &[(
            "c1 c2",
            "for n in $(seq 1 100); do printf 'set k%s 0 0 5\\r\\nhello\\r\\nget k%s\\r\\nquit\\r\\n' $n $n | timeout 2 ncat s1 11211; sleep 0.15; done",
        )],
        35,
    ),
    // Mail.
    (
        "mail-submit",
        "mail",
        &[("s1", &SUBMISSION), ("s2", &SMTP)],
        &[(
            "c1 c2 c3",
            "for n in $(seq 1 7); do head -c $((n * 9000)) /dev/urandom | base64 >m; swaks --server s1 --port 587 --from a@x.example --to b$n@y.example --body @m --silent 3; sleep 3; done",
        )],
        40,
    ),
    (
        "mail-deliver",
        "mail",
        &[("w1 w2 w3 w4", &SMTP), ("w9", &DNS)],
        &[(
            "s1",
            "for n in $(seq 1 24); do dig +short shop.example mx @$w9 >/dev/null; swaks --server w$((n % 4 + 1)) --from a@x.example --to b$n@y.example --silent 3; sleep 0.9; done",
        )],
        45,
    ),
    (
        "mail-list",
        "mail",
        &[("w1 w2 w3 w4 w5", &SMTP), ("w9", &DNS)],
        &[(
            "s1",
            "for n in $(seq 1 30); do swaks --server w$((n % 5 + 1)) --from list@x.example --to b$n@y.example --silent 3 & sleep 0.4; done; wait",
        )],
        40,
    ),
    (
        "mail-retry",
        "mail",
        &[("w1", &SMTP)],
        &[(
            "s1",
            "for n in $(seq 1 8); do timeout 5 swaks --server 198.19.140.7 --timeout 4 --from a@x.example --to b@y.example --silent 3; swaks --server w1 --from a@x.example --to b$n@y.example --silent 3; done",
        )],
        50,
    ),
    (
        "mail-incoming",
        "mail",
        &[("s1", &SMTP)],
        &[(
            "c1 c2 c3 c4 c5",
            "for n in $(seq 1 8); do swaks --server s1 --from a$n@x.example --to b@y.example --silent 3; sleep $((n % 4 + 2)); done",
        )],
        45,
    ),
    (
        "imap",
        "mail",
        &[("s1", &IMAP)],
        &[(
            "c1 c2 c3",
            "for n in $(seq 1 10); do head -c $((n * 4000)) /dev/urandom | base64 >m; curl -s -u u$n:right-1 -T m imap://s1/INBOX; curl -s -u u$n:right-1 imap://s1/INBOX -X 'SEARCH ALL' >/dev/null; curl -s -u u$n:right-1 'imap://s1/INBOX;MAILINDEX=1' >/dev/null; sleep 2; done",
        )],
        40,
    ),
    (
        "imap-idle",
        "mail",
        &[("s1", &IMAP)],
        &[(
            "c1 c2 c3 c4",
            "(printf 'a login u right-1\\r\\nb select INBOX\\r\\nc idle\\r\\n'; sleep 18; printf 'DONE\\r\\nd noop\\r\\n'; sleep 2; printf 'e idle\\r\\n'; sleep 18; printf 'DONE\\r\\nf logout\\r\\n') | ncat s1 143 >/dev/null",
        )],
        45,
    ),
    (
        "pop3-poll",
        "mail",
        &[("s1", &IMAP)],
        &[
            (
                "c1 c2 c3",
                "for n in $(seq 1 14); do curl -s -u u:right-1 pop3://s1/; sleep 2; done",
            ),
            (
                "c4",
                "for w in wrong right-1 right-1; do curl -s -u u:$w pop3://s1/; sleep 7; done",
            ),
        ],
        40,
    ),
    // Names.
    (
        "dns-mix",
        "normal_dns",
        &[("w9", &DNS)],
        &[(
            "i1 i2 i3 i4 i5 i6",
            "for n in $(seq 1 80); do case $((n % 7)) in 0) dig +short nope$n.com;; 1) dig +short -x 198.18.1.$n;; 2) dig +short host$n.example aaaa;; 3) dig +short shop.example mx;; 4) dig +short _xmpp-client._tcp.example srv;; *) dig +short host$n.example;; esac >/dev/null; sleep 0.$((n * 3 % 9)); done",
        )],
        40,
    ),
    (
        "dns-unbound",
        "normal_dns",
        &[("w9", &UNBOUND)],
        &[(
            "i1 i2 i3",
            "for n in $(seq 1 90); do dig +short host$((n % 70)).example >/dev/null; dig +short host$((n % 70)).example aaaa >/dev/null; sleep 0.3; done",
        )],
        40,
    ),
    (
        "dns-perf",
        "normal_dns",
        &[("w9", &UNBOUND)],
        &[(
            "i1",
            "for n in $(seq 1 60); do echo host$n.example A; echo no$n.example A; echo host$n.example AAAA; done >q; dnsperf -s $w9 -d q -Q 120 -l 20",
        )],
        30,
    ),
    (
        "dns-search-path",
        "normal_dns",
        &[("w9", &DNS)],
        &[(
            "i1 i2 i3",
            "printf 'search corp.example branch.example dept.com\\n' >>/etc/resolv.conf; for n in $(seq 1 50); do getent ahosts printer$n >/dev/null; getent ahosts host$n.example >/dev/null; sleep 0.3; done",
        )],
        35,
    ),
    (
        "dns-long-names",
        "normal_dns",
        &[("w9", &DNS)],
        &[(
            "i1 i2",
            "for n in $(seq 1 60); do dig +short e$n-2f1b7.a248.dsc-$(printf '%012x' $((n * 7919)))-edge.global.cdn.example >/dev/null; dig +short $(printf '%032x' $((n * 104729))).api.example >/dev/null; sleep 0.4; done",
        )],
        35,
    ),
    (
        "dns-blocklist",
        "normal_dns",
        &[("w9", &DNS)],
        &[(
            "s1",
            "for n in $(seq 1 90); do dig +short $((n * 7 % 250)).$((n * 13 % 250)).18.198.zen.bl.com >/dev/null; [ $((n % 6)) = 0 ] && dig +short shop.example txt >/dev/null; sleep 0.3; done",
        )],
        40,
    ),
    (
        "dns-txt-keys",
        "normal_dns",
        &[("w9", &UNBOUND)],
        &[(
            "s1 s2",
            "for n in $(seq 1 40); do dig +short selector$n._domainkey.shop.example txt >/dev/null; dig +short big.example txt >/dev/null; dig +short _dmarc.shop.example txt >/dev/null; sleep 0.6; done",
        )],
        35,
    ),
    (
        "dns-dead-resolver",
        "normal_dns",
        &[("w9", &DNS)],
        &[(
            "i1 i2",
            "for n in $(seq 1 12); do dig +tries=2 +time=1 @198.19.140.53 host$n.example >/dev/null; dig +short host$n.example >/dev/null; sleep 1; done",
        )],
        45,
    ),
    (
        "dns-reverse-log",
        "normal_dns",
        &[("w9", &DNS)],
        &[(
            "s1",
            "for n in $(seq 1 200); do dig +short -x 198.19.$((n % 9)).$n >/dev/null; sleep 0.05; done",
        )],
        35,
    ),
    (
        "mdns-ssdp",
        "normal_iot",
        &[("w9", &DNS)],
        &[(
            "i1 i2 c1 c2",
            "for n in $(seq 1 20); do printf '\\0\\0\\0\\0\\0\\001\\0\\0\\0\\0\\0\\0\\005_http\\004_tcp\\005local\\0\\0\\014\\0\\001' | socat -u - UDP4-DATAGRAM:224.0.0.251:5353,bind=:5353,reuseaddr; printf 'M-SEARCH * HTTP/1.1\\r\\nHOST: 239.255.255.250:1900\\r\\nMAN: \"ssdp:discover\"\\r\\nMX: 1\\r\\nST: ssdp:all\\r\\n\\r\\n' | socat -u - UDP4-DATAGRAM:239.255.255.250:1900; sleep 1.$((n % 9)); done",
        )],
        35,
    ),
    // Time, things, telemetry.
    (
        "ntp",
        "time",
        &[("w1 w2 w3", &TIME)],
        &[(
            "i1 i2 i3 i4",
            "printf 'server %s minpoll -2 maxpoll 0 iburst\\nserver %s minpoll -1 maxpoll 1 iburst\\nserver %s iburst minpoll 0 maxpoll 2\\ncmdport 0\\npidfile /tmp/p\\n' $w1 $w2 $w3 >c; timeout 35 chronyd -d -x -u root -f /tmp/c",
        )],
        40,
    ),
    (
        "ntp-steps",
        "time",
        &[("w1 w2", &TIME)],
        &[(
            "i1 i2 i3 i4 i5 i6",
            "for n in 1 2 3 4 5 6; do timeout 6 chronyd -Q -x -u root \"server w$((n % 2 + 1)) iburst maxsamples 4\" 'pidfile /tmp/p' 'cmdport 0'; sleep 2; done",
        )],
        50,
    ),
    (
        "mqtt-telemetry",
        "normal_iot",
        &[("w1", &MQTT)],
        &[
            (
                "i1 i2 i3 i4",
                "(for n in $(seq 1 40); do echo \"{t:$n,v:$((n * 37 % 99))}\"; sleep 1; done) | mosquitto_pub -h w1 -l -t home/$(hostname)",
            ),
            (
                "i5",
                "timeout 40 mosquitto_sub -h w1 -t 'home/#' >/dev/null",
            ),
        ],
        45,
    ),
    (
        "mqtt-short",
        "normal_iot",
        &[("w1", &MQTT)],
        &[(
            "i1 i2 i3 i4 i5 i6",
            "for n in $(seq 1 30); do mosquitto_pub -h w1 -q 1 -t home/$(hostname) -m $n; sleep 1.$((n % 5)); done",
        )],
        45,
    ),
    (
        "iot-cloud",
        "normal_iot",
        &[("w1 w2", &WEB), ("w8", &TIME), ("w9", &DNS)],
        &[(
            "i1 i2 i3 i4 i5",
            "for n in $(seq 1 9); do dig +short host$n.example >/dev/null; printf '\\043' | cat - /dev/zero | head -c 48 | timeout 1 socat - UDP:w8:123 >/dev/null; curl -sk -o /dev/null -d s=$n https://w1/post; sleep 3.$((n % 7)); curl -s -o /dev/null http://w2/none; sleep 1; done",
        )],
        50,
    ),
    (
        "iot-boot",
        "normal_iot",
        &[("w1", &WEB), ("w8", &TIME), ("w9", &DNS)],
        &[(
            "i1 i2 i3 i4 i5 i6",
            "sleep $(hostname | tr -d i); for n in 1 2 3 4; do arping -q -c 1 -I eth0 198.18.0.253 2>/dev/null; dig +short host$n.example >/dev/null; dig +short time.example >/dev/null; timeout 4 chronyd -Q -x -u root 'server w8 iburst maxsamples 2' 'pidfile /tmp/p' 'cmdport 0'; curl -sk -o /dev/null https://w1/f$n https://w1/task; sleep 4; done",
        )],
        45,
    ),
    (
        "camera-stream",
        "normal_iot",
        &[("w1", &CONTROL)],
        &[
            (
                "i1",
                "ncat -u -l 6000 >/dev/null & (for n in $(seq 1 300); do head -c 1100 /dev/urandom; sleep 0.1; done) | socat -u -b 1100 - UDP-SENDTO:w1:6000",
            ),
            (
                "i2",
                "head -c 900000 /dev/zero | pv -q -L 30k 2>/dev/null | ncat w1 4444 >/dev/null; for n in $(seq 1 80); do head -c 1200 /dev/zero; sleep 0.3; done | ncat w1 4444 >/dev/null",
            ),
        ],
        40,
    ),
    (
        "syslog",
        "monitoring",
        &[("s1", &SYSLOG)],
        &[(
            "c1 c2 c3 c4",
            "for n in $(seq 1 120); do printf '<34>Oct 11 22:14:15 %s app: message %d %s' $(hostname) $n $(seq -s. $((n % 40)) 60) | socat -u - UDP-SENDTO:s1:514; sleep 0.2; done",
        )],
        40,
    ),
    (
        "snmp-walk",
        "monitoring",
        &[("s1 s2 s3", &SNMP)],
        &[(
            "c1",
            "for r in 1 2 3; do for h in s1 s2 s3; do snmpwalk -v2c -c public $h 1.3.6.1.2.1.1; snmpget -v2c -c public $h 1.3.6.1.2.1.1.3.0 1.3.6.1.2.1.1.5.0; snmpbulkwalk -v2c -c public $h 1.3.6.1.2.1.2; done; sleep 4; done",
        )],
        45,
    ),
    (
        "snmp-many",
        "monitoring",
        &[("s1 s2 s3", &SNMP)],
        &[(
            "c1",
            "for r in 1 2 3 4; do for n in $(seq 1 14); do for m in 1 2 3; do snmpget -v2c -c public -t 0.5 -r 1 198.19.$m.$n 1.3.6.1.2.1.1.3.0 >/dev/null 2>&1 & done; done; wait; sleep 4; done",
        )],
        40,
    ),
    (
        "scrape-many",
        "monitoring",
        &[("s1 s2 s3", &WEB)],
        &[(
            "c1",
            "for r in $(seq 1 25); do for m in 1 2 3; do for n in 1 2 3 4 5 6; do curl -s -m 1 -o /dev/null http://198.19.$m.$n:9100/metrics & done; done; wait; sleep 0.8; done",
        )],
        40,
    ),
    (
        "scrape-some-dead",
        "monitoring",
        &[("s1 s2", &WEB)],
        &[(
            "c1",
            "for r in $(seq 1 12); do for m in 1 2; do for n in 1 2 3 4 15 16 17; do curl -s -m 2 -o /dev/null http://198.19.$m.$n:9100/metrics & done; done; wait; sleep 1; done",
        )],
        45,
    ),
    (
        "scrape-keepalive",
        "monitoring",
        &[("s1 s2", &WEB)],
        &[(
            "c1",
            "for h in s1 s2; do (for n in $(seq 1 30); do printf 'GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'; sleep 1; done) | ncat $h 9100 >/dev/null & done; wait",
        )],
        40,
    ),
    (
        "health-checks",
        "monitoring",
        &[("s1 s2 s3", &WEB)],
        &[(
            "c1 c2",
            "for r in $(seq 1 20); do for h in s1 s2 s3; do nc -z -w 1 $h 80; nc -z -w 1 $h 443; curl -s -m 1 -o /dev/null http://$h/none; done; sleep 1.5; done",
        )],
        40,
    ),
    (
        "health-dead-port",
        "monitoring",
        &[("s1 s2", &WEB)],
        &[(
            "c1",
            "for r in $(seq 1 40); do for h in s1 s2; do nc -z -w 1 $h 80; nc -z -w 1 $h 8000; done; sleep 0.7; done",
        )],
        40,
    ),
    (
        "health-dead-host",
        "monitoring",
        &[("s1", &WEB)],
        &[(
            "c1",
            "for r in $(seq 1 20); do nc -z -w 1 $s1 80; nc -z -w 1 198.19.140.3 80; nc -z -w 1 198.19.200.3 80; sleep 0.5; done",
        )],
        45,
    ),
    (
        "port-checks",
        "monitoring",
        &[("s1", &WEB), ("s2", &SSH), ("s3", &REDIS)],
        &[(
            "c1",
            "for r in $(seq 1 12); do nc -z -w 1 $s1 80; nc -z -w 1 $s1 443; nc -z -w 1 $s1 8080; nc -z -w 1 $s2 22; nc -z -w 1 $s3 6379; ping -q -c 1 $s1; ping -q -c 1 $s2; sleep 2; done",
        )],
        40,
    ),
    (
        "ping-many",
        "monitoring",
        &[("s1 s2 s3", &SSH)],
        &[(
            "c1",
            "for r in 1 2 3 4 5 6 7 8; do for m in 1 2 3; do for n in 1 2 3 4 5 6 7 8 9 10; do ping -q -c 1 -W 1 198.19.$m.$n >/dev/null & done; done; wait; sleep 3; done",
        )],
        40,
    ),
    (
        "ping-some-dead",
        "monitoring",
        &[("s1 s2", &SSH)],
        &[(
            "c1",
            "seq -f 198.19.1.%g 1 20 >h; seq -f 198.19.2.%g 1 16 >>h; for r in 1 2 3 4; do fping -q -r 1 -t 400 <h; sleep 3; done",
        )],
        40,
    ),
    (
        "traceroute",
        "monitoring",
        &[("s1 s2", &WEB)],
        &[(
            "c1",
            "for r in 1 2 3; do for h in s1 s2; do mtr -n -r -c 6 -i 0.3 $h; mtr -n -T -P 443 -r -c 4 -i 0.3 $h; done; done 2>/dev/null; for n in $(seq 1 30); do ping -q -c 1 $s1; curl -s -o /dev/null http://s2/none; done",
        )],
        40,
    ),
    (
        "config-audit",
        "monitoring",
        &[("s1 s2 s3 s4", &SSH)],
        &[(
            "c1",
            "for h in s1 s2 s3 s4; do ssh-keyscan -T 2 $h; done; for h in s1 s2 s3 s4; do sshpass -p right-1 ssh lab@$h 'cat /etc/passwd; ls -la /etc; sleep 1'; done; sleep 2; for h in s1 s2 s3 s4; do sshpass -p right-1 scp words lab@$h:c; done",
        )],
        40,
    ),
    // Chat and calls.
    (
        "irc-chat",
        "chat",
        &[("w1", &IRC)],
        &[(
            "i1 i2 i3 i4",
            "(printf 'NICK %s\\r\\nUSER b 0 * :b\\r\\n' $(hostname); sleep 1; printf 'JOIN #talk\\r\\n'; for n in $(seq 1 16); do sleep 1.$((n % 9)); printf 'PRIVMSG #talk :%s\\r\\n' \"$(seq -s' ' 1 $((n * 7 % 30)))\"; done; sleep 4) | ncat w1 6667 >/dev/null",
        )],
        45,
    ),
    (
        "irc-idle",
        "chat",
        &[("w1", &IRC)],
        &[(
            "i1 i2",
            "mkfifo f; (printf 'NICK %s\\r\\nUSER b 0 * :b\\r\\nJOIN #talk\\r\\n' $(hostname); while read -r a b; do case $a in PING*) printf 'PONG %s\\r\\n' \"$b\";; esac; done <f) | timeout 60 ncat w1 6667 >f",
        )],
        65,
    ),
    (
        "chat-long",
        "chat",
        &[("w1", &CONTROL)],
        &[(
            "i1 i2 i3",
            "(for n in $(seq 1 25); do echo SAY $(seq -s. 1 $((n * 11 % 50))); sleep $((n * 7 % 4)).3; done) | ncat w1 4444 >/dev/null",
        )],
        50,
    ),
    (
        "sip-calls",
        "voip",
        &[("w1", &SIP)],
        &[(
            "i1",
            "sipp -sn uac -i $i1 -r 2 -d 2500 -m 50 -l 12 -nostdin $w1:5060",
        )],
        40,
    ),
    (
        "voice",
        "voip",
        &[("w1", &IPERF)],
        &[(
            "i1",
            "iperf3 -c $w1 -u -b 64K -l 160 -t 14; iperf3 -c $w1 -u -b 64K -l 160 -t 14 -R",
        )],
        35,
    ),
    (
        "video-call",
        "voip",
        &[("w1 w2", &IPERF)],
        &[
            ("i1", "iperf3 -c $w1 -u -b 900K -l 1050 -t 12 --bidir"),
            ("i2", "iperf3 -c $w2 -u -b 80K -l 200 -t 20 --bidir"),
        ],
        30,
    ),
    (
        "game-udp",
        "voip",
        &[("w1", &IPERF)],
        &[("i1", "iperf3 -c $w1 -u -b 40K -l 90 -t 25 --bidir")],
        32,
    ),
    (
        "speed-test",
        "bulk",
        &[("w1", &IPERF)],
        &[(
            "i1",
            "for p in 1 2 3; do iperf3 -c $w1 -P 2 -n 800K; iperf3 -c $w1 -R -n 1500K; sleep 2; done; iperf3 -c $w1 -u -b 2M -t 5; ping -q -c 5 $w1",
        )],
        40,
    ),
    (
        "speed-test-parallel",
        "bulk",
        &[("w1", &IPERF), ("w2", &WEB)],
        &[
            (
                "i1",
                "iperf3 -c $w1 -P 8 -n 4M; iperf3 -c $w1 -P 6 -R -n 4M",
            ),
            (
                "i2",
                "for n in 1 2 3 4 5 6; do curl -s -o /dev/null http://w2/middle & done; wait",
            ),
        ],
        30,
    ),
    // Peers.
    (
        "p2p-small",
        "p2p",
        &[("s9", &TRACKER)],
        &[
            (
                "c1",
                torrent!(
                    "timeout 45 aria2c -q -V --seed-ratio=0 --enable-dht=false --bt-enable-lpd=false --max-overall-upload-limit=400K t.torrent"
                ),
            ),
            (
                "i1 i2",
                torrent!(
                    "sleep 4; rm data; timeout 40 aria2c -q --seed-ratio=0 --enable-dht=false --bt-enable-lpd=false --max-overall-upload-limit=200K --max-overall-download-limit=150K t.torrent"
                ),
            ),
        ],
        50,
    ),
    (
        "p2p-swarm",
        "p2p",
        &[("s9", &TRACKER)],
        &[
            (
                "c1 c2",
                torrent!(
                    "timeout 60 aria2c -q -V --seed-ratio=0 --enable-dht=false --max-overall-upload-limit=300K t.torrent"
                ),
            ),
            (
                "i1 i2 i3 c3 c4",
                torrent!(
                    "sleep 5; rm data; timeout 55 aria2c -q --seed-ratio=0 --enable-dht=false --max-overall-upload-limit=100K --max-overall-download-limit=90K t.torrent"
                ),
            ),
        ],
        65,
    ),
    (
        "p2p-dead-only",
        "p2p",
        &[("s9", &TRACKER)],
        &[(
            "i1",
            torrent!(
                "rm data; timeout 60 aria2c -q --enable-dht=false --seed-ratio=0 --bt-tracker-interval=8 t.torrent"
            ),
        )],
        65,
    ),
    (
        "p2p-dht",
        "p2p",
        &[("s9", &TRACKER)],
        &[
            (
                "i1 i2",
                torrent!(
                    "rm data; timeout 50 aria2c -q --enable-dht=true --dht-entry-point=198.19.140.$(hostname | tr -d i):6881 --bt-tracker-interval=10 --seed-ratio=0 --dht-file-path=/tmp/dht t.torrent"
                ),
            ),
            (
                "c1",
                torrent!(
                    "timeout 50 aria2c -q -V --enable-dht=true --dht-entry-point=$i1:6881 --dht-file-path=/tmp/dht --seed-ratio=0 --max-overall-upload-limit=100K t.torrent"
                ),
            ),
        ],
        55,
    ),
    (
        "p2p-utp",
        "p2p",
        &[("s9", &TRACKER)],
        &[
            (
                "c1",
                torrent!(
                    "timeout 55 transmission-cli -er -p 51413 -u 250 -w . t.torrent </dev/null"
                ),
            ),
            (
                "i1 i2",
                torrent!(
                    "sleep 4; rm data; timeout 50 transmission-cli -er -p 51414 -d 120 -u 60 -w . t.torrent </dev/null"
                ),
            ),
        ],
        60,
    ),
    (
        "p2p-mixed",
        "p2p",
        &[("s9", &TRACKER), ("s8", &WEB), ("s7", &DNS)],
        &[
            (
                "c1",
                torrent!(
                    "timeout 55 transmission-cli -er -p 51413 -u 150 -w . t.torrent </dev/null"
                ),
            ),
            (
                "i1",
                torrent!(
                    "rm data; timeout 50 aria2c -q --enable-dht=true --dht-entry-point=198.19.140.9:6881 --dht-file-path=/tmp/dht --seed-ratio=0 --max-overall-download-limit=100K t.torrent & for n in $(seq 1 30); do curl -s -o /dev/null http://s8/p$n.html; sleep 1; done"
                ),
            ),
            (
                "c2",
                "for n in $(seq 1 30); do curl -sk -o /dev/null https://s8/f$n; dig +short host$n.example >/dev/null; sleep 1; done",
            ),
        ],
        60,
    ),
    (
        "p2p-rejoin",
        "p2p",
        &[("s9", &TRACKER)],
        &[
            (
                "c1",
                torrent!(
                    "timeout 55 aria2c -q -V --seed-ratio=0 --enable-dht=false --max-overall-upload-limit=200K t.torrent"
                ),
            ),
            (
                "i1 i2 i3",
                torrent!(
                    "rm data; for n in 1 2 3 4; do timeout 11 aria2c -q --seed-ratio=0 --enable-dht=false --max-overall-download-limit=60K t.torrent; sleep 1; done"
                ),
            ),
        ],
        60,
    ),
    // Noisy and innocent.
    (
        "retry-refused",
        "retry",
        &[("w1", &WEB)],
        &[(
            "i1 i2",
            "for n in $(seq 1 250); do curl -s -m 1 http://w1:8000/ ; sleep 0.1; done",
        )],
        40,
    ),
    (
        "retry-dead",
        "retry",
        &[("w1", &WEB)],
        &[(
            "i1 i2",
            "for n in $(seq 1 30); do curl -s -m 1 http://198.19.140.$((n % 3 + 1))/; curl -s -o /dev/null http://w1/task; done",
        )],
        45,
    ),
    (
        "retry-storm",
        "retry",
        &[("w1", &WEB)],
        &[(
            "i1 i2 i3 i4 i5",
            "for n in $(seq 1 40); do for m in 1 2 3; do curl -s -m 1 http://w1:8001/ & done; wait; sleep 0.3; done; for n in 1 2 3 4 5; do curl -s -o /dev/null http://w1/f$n; done",
        )],
        40,
    ),
    (
        "retry-db-down",
        "retry",
        &[("s1", &WEB)],
        &[(
            "c1 c2 c3",
            "for n in $(seq 1 60); do nc -z -w 1 $s1 5432; curl -s -o /dev/null http://s1/none; sleep 0.4; done",
        )],
        40,
    ),
    (
        "retry-unreachable",
        "retry",
        &[("w1", &WEB)],
        &[(
            "i1",
            "for n in $(seq 1 80); do curl -s -m 1 http://198.19.200.$((n % 5 + 1)):443/; sleep 0.3; done; for n in $(seq 1 9); do curl -s -o /dev/null http://w1/f$n; done",
        )],
        40,
    ),
    (
        "knock",
        "retry",
        &[("s1", &SSH)],
        &[(
            "c1",
            "for r in 1 2 3 4 5; do for p in 7000 8000 9000 7500; do nc -z -w 1 $s1 $p; done; sleep 1; sshpass -p right-1 ssh lab@s1 'ls; uptime'; sleep 2; done",
        )],
        40,
    ),
    (
        "knock-udp",
        "retry",
        &[("s1", &SSH)],
        &[(
            "c1 c2",
            "for r in 1 2 3 4; do for p in 1111 2222 3333 4444; do echo k | socat -u - UDP-SENDTO:$s1:$p; sleep 0.2; done; sshpass -p right-1 ssh lab@s1 'ls; uptime'; sleep 4; done",
        )],
        40,
    ),
    (
        "happy-eyeballs",
        "retry",
        &[("w1", &WEB), ("w9", &DNS)],
        &[(
            "i1 i2 i3",
            "for n in $(seq 1 25); do timeout 0.3 curl -s -m 1 http://[fd00:6e6d:6d::9]/ ; curl -s -o /dev/null http://w1/f$n; sleep 0.5; done",
        )],
        40,
    ),
    (
        "service-discovery",
        "retry",
        &[("s1", &WEB), ("s2", &REDIS), ("s3", &MQTT)],
        &[(
            "c1 c2",
            "for r in $(seq 1 9); do for h in s1 s2 s3; do for p in 80 1883 6379; do nc -z -w 1 $h $p; done; done; curl -s -o /dev/null http://s1/f$r; redis-cli -h s2 get a; mosquitto_pub -h s3 -t a -m b; sleep 2; done",
        )],
        40,
    ),
    (
        "printer-look",
        "retry",
        &[("s1", &WEB)],
        &[(
            "c1",
            "for n in $(seq 1 24); do nc -z -w 1 198.19.1.$n 9100 & nc -z -w 1 198.19.1.$n 631 & done; wait; sleep 3; for n in $(seq 1 20); do head -c 3000 /dev/zero | nc -w 1 -N $s1 9100 >/dev/null; sleep 1; done",
        )],
        40,
    ),
    (
        "app-start",
        "retry",
        &[("w1 w2 w3 w4 w5", &WEB), ("w9", &DNS)],
        &[(
            "i1",
            "for r in 1 2 3 4 5; do for n in $(seq 1 14); do (dig +short host$n.example >/dev/null; curl -s -m 1 -o /dev/null http://198.19.10$((n % 5 + 1)).$n/f$n) & done; wait; sleep 5; done",
        )],
        45,
    ),
];
