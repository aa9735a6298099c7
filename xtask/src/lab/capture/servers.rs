//! The servers scenarios call on: real ones, configured within their own copies of `/etc` and
//! `/var`, in the foreground. The only account is `lab` with the password `right-1`.

/// A server.
#[derive(Debug)]
pub(super) struct Server {
    /// Lines of sh that end in the server itself.
    pub(super) script: &'static str,
    /// Port that shows it is ready, TCP or UDP; zero where none does.
    pub(super) port: u16,
    /// True where the hosts of its scenario ask it for names.
    pub(super) resolves: bool,
}

const fn server(port: u16, script: &'static str) -> Server {
    Server {
        script,
        port,
        resolves: false,
    }
}

const fn resolver(script: &'static str) -> Server {
    Server {
        script,
        port: 53,
        resolves: true,
    }
}

/// OpenSSH with passwords.
pub(super) const SSH: Server = server(
    22,
    r#"
mkdir -p /run/sshd /tmp/home; chmod 755 /tmp/home
echo 'lab:x:2000:2000::/tmp/home:/bin/sh' >>/etc/passwd; echo 'lab:x:2000:' >>/etc/group
echo "lab:$(openssl passwd -6 right-1):19000:0:99999:7:::" >>/etc/shadow; chown 2000:2000 /tmp/home
head -c 3000000 /dev/urandom >/tmp/home/big; head -c 30000 /dev/urandom >/tmp/home/small
ssh-keygen -q -t ed25519 -N '' -f /tmp/hostkey
exec /usr/sbin/sshd -D -e -f /dev/null -h /tmp/hostkey -o UsePAM=no -o MaxStartups=300 \
  -o PermitRootLogin=yes -o 'Subsystem=sftp internal-sftp' -o UseDNS=no -o MaxSessions=50
"#,
);

/// vsftpd with local accounts.
pub(super) const FTP: Server = server(
    21,
    r#"
mkdir -p /run/vsftpd/empty /tmp/home
echo 'lab:x:2000:2000::/tmp/home:/bin/sh' >>/etc/passwd; echo 'lab:x:2000:' >>/etc/group
echo "lab:$(openssl passwd -6 right-1):19000:0:99999:7:::" >>/etc/shadow; chown 2000:2000 /tmp/home
for n in 1 2 3 4 5 6 7 8; do head -c $((n * n * 30000)) /dev/urandom >/tmp/home/file$n; done
printf '%s\n' listen=YES background=NO local_enable=YES write_enable=YES anonymous_enable=NO \
  seccomp_sandbox=NO pam_service_name=vsftpd max_per_ip=0 max_login_fails=20 >/tmp/ftp.conf
exec /usr/sbin/vsftpd /tmp/ftp.conf
"#,
);

/// nginx: pages of all sizes, a part behind a password, TLS, and ports of other HTTP services.
pub(super) const WEB: Server = server(
    443,
    r#"
mkdir -p /tmp/www/private /var/log/nginx /var/lib/nginx/body
for n in $(seq 1 40); do
  head -c $((n * 700 + n % 7 * 9000)) /dev/urandom | base64 >/tmp/www/f$n
  { printf '<html><body>'
  for m in 1 2 3 4 5 6; do printf '<img src="/f%d"><a href="/p%d.html">x</a>' $(((n * 5 + m) % 40 + 1)) $(((n * 3 + m) % 40 + 1)); done
  head -c $((n * 300)) /dev/urandom | base64; } >/tmp/www/p$n.html
done
cp /tmp/www/p1.html /tmp/www/index.html; cp /tmp/www/p2.html /tmp/www/private/index.html
head -c 12000000 /dev/urandom >/tmp/www/large; head -c 1500000 /dev/urandom >/tmp/www/middle
echo "lab:$(openssl passwd -apr1 right-1)" >/tmp/htpasswd
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=s1.example -days 30 -keyout /tmp/key -out /tmp/cert 2>/dev/null
cat >/tmp/nginx.conf <<'CONF'
user root;
worker_processes 1;
pid /tmp/nginx.pid;
error_log /dev/null;
events { worker_connections 2000; }
http {
  access_log off;
  client_max_body_size 100m;
  types { text/html html; }
  keepalive_timeout 20;
  server {
    listen 80; listen [::]:80; listen 8080; listen 5985; listen 9100; listen 443 ssl; listen [::]:443 ssl; listen 8443 ssl;
    ssl_certificate /tmp/cert; ssl_certificate_key /tmp/key;
    root /tmp/www;
    location /private/ { auth_basic "x"; auth_basic_user_file /tmp/htpasswd; }
    location /task { return 200 "0"; }
    location /post { return 200 "ok"; }
    location /none { return 204; }
    location /slow { limit_rate 60k; try_files /large =404; }
    location /metrics { try_files /f9 =404; }
    location /wsman { return 401; }
  }
}
CONF
exec nginx -c /tmp/nginx.conf -g 'daemon off;'
"#,
);

/// HAProxy, which answers by itself and has short time-outs.
pub(super) const PROXY: Server = server(
    80,
    r#"
cat >/tmp/h.cfg <<'CONF'
global
  maxconn 1000
defaults
  mode http
  timeout client 15s
  timeout server 5s
  timeout connect 1s
  timeout http-request 10s
frontend f
  bind :80
  http-request return status 200 content-type text/plain string "hello from the lab, a line of text that is an answer"
CONF
exec haproxy -f /tmp/h.cfg -db
"#,
);

/// dnsmasq with made-up zones: what ends in `.com` does not exist, `.example` partly does.
pub(super) const DNS: Server = resolver(
    r#"
exec dnsmasq -k -u root --no-resolv --no-hosts --conf-file=/dev/null --cache-size=500 --pid-file= \
  --address=/com/ --address=/net/ --address=/local/ --address=/cdn.example/198.18.11.2 \
  --address=/www.example/198.18.11.1 --address=/www.example/fd00:6e6d:6c::b:1 \
  --address=/mail.example/198.18.11.3 --address=/api.example/198.18.11.4 \
  --mx-host=shop.example,mail.example,10 --txt-record=shop.example,"v=spf1 include:mail.example -all" \
  --ptr-record=1.1.18.198.in-addr.arpa,s1.example --local=/in-addr.arpa/ --local=/example/ \
  --srv-host=_xmpp-client._tcp.example,s1.example,5222 --server=/t.example/${w1:-127.0.0.1} \
  $(for n in $(seq 1 12); do echo "--txt-record=big.example,$(seq -s- $((n * 100)) $((n * 100 + 45)))"; done) \
  $(for n in $(seq 1 60); do echo "--host-record=host$n.example,198.18.11.$((n % 9 + 1))"; done)
"#,
);

/// unbound, which answers from local data only.
pub(super) const UNBOUND: Server = resolver(
    r#"
{
  echo 'server:
  interface: 0.0.0.0
  interface: ::0
  access-control: 0.0.0.0/0 allow
  access-control: ::0/0 allow
  chroot: ""
  username: ""
  pidfile: /tmp/unbound.pid
  use-syslog: no
  do-daemonize: no
  module-config: "iterator"
  local-zone: "." static'
  for n in $(seq 1 60); do echo "  local-data: \"host$n.example. 300 IN A 198.18.11.$((n % 9 + 1))\""; echo "  local-data: \"host$n.example. 300 IN AAAA fd00:6e6d:6c::b:$((n % 9 + 1))\""; done
  for n in www mail api cdn shop; do echo "  local-data: \"$n.example. 60 IN A 198.18.11.1\""; done
  for n in $(seq 1 12); do echo "  local-data: 'big.example. 60 IN TXT \"$(seq -s- $((n * 100)) $((n * 100 + 45)))\"'"; done
} >/tmp/u.conf
exec unbound -d -c /tmp/u.conf
"#,
);

/// chrony as a time server of its own.
pub(super) const TIME: Server = server(
    123,
    r#"
printf 'local stratum 3\nallow\nallow ::/0\ncmdport 0\npidfile /tmp/chrony.pid\ndriftfile /tmp/drift\n' >/tmp/c.conf
exec chronyd -d -x -u root -f /tmp/c.conf
"#,
);

/// dovecot: IMAP and POP3 with one password.
pub(super) const IMAP: Server = server(
    143,
    r#"
mkdir -p /tmp/mail; chmod 777 /tmp/mail
cat >/tmp/d.conf <<'CONF'
protocols = imap pop3
base_dir = /run/dovecot
log_path = /dev/stderr
ssl = no
disable_plaintext_auth = no
mail_location = maildir:/tmp/mail/%u
first_valid_uid = 0
default_internal_user = dovecot
default_login_user = dovenull
auth_mechanisms = plain login
passdb {
  driver = static
  args = password=right-1
}
userdb {
  driver = static
  args = uid=2000 gid=2000 home=/tmp/mail/%u
}
CONF
exec dovecot -F -c /tmp/d.conf
"#,
);

/// A mail server that takes everything.
pub(super) const SMTP: Server = server(
    25,
    "exec /usr/bin/python3 -m aiosmtpd -n -c aiosmtpd.handlers.Sink -l 0.0.0.0:25",
);

/// The same for submission.
pub(super) const SUBMISSION: Server = server(
    587,
    "exec /usr/bin/python3 -m aiosmtpd -n -c aiosmtpd.handlers.Sink -l 0.0.0.0:587",
);

/// Samba with one share.
pub(super) const SMB: Server = server(
    445,
    r#"
mkdir -p /tmp/share /run/samba /var/lib/samba/private /var/cache/samba /var/log/samba; chmod 777 /tmp/share
for n in 1 2 3 4 5 6; do head -c $((n * n * 40000)) /dev/urandom >/tmp/share/doc$n; done
echo 'lab:x:2000:2000::/tmp:/bin/sh' >>/etc/passwd; echo 'lab:x:2000:' >>/etc/group
cat >/etc/samba/smb.conf <<'CONF'
[global]
 server role = standalone
 log file = /tmp/smb.log
 map to guest = never
 load printers = no
 printing = bsd
 disable spoolss = yes
[share]
 path = /tmp/share
 read only = no
CONF
printf 'right-1\nright-1\n' | smbpasswd -s -a lab
exec smbd -F --no-process-group --debug-stdout
"#,
);

/// Telnet with a login that never succeeds.
pub(super) const TELNET: Server = server(
    23,
    r#"
cat >/tmp/login <<'CONF'
#!/bin/sh
n=0
while [ $n -lt 3 ]; do printf 'login: '; read u || exit; printf 'Password: '; read p || exit; sleep 1; printf '\r\nLogin incorrect\r\n'; n=$((n + 1)); done
CONF
chmod +x /tmp/login
exec socat TCP6-LISTEN:23,ipv6only=0,reuseaddr,fork,max-children=200 EXEC:/tmp/login
"#,
);

/// Redis.
pub(super) const REDIS: Server = server(
    6_379,
    "exec redis-server --bind 0.0.0.0 --protected-mode no --save '' --dir /tmp",
);

/// PostgreSQL.
pub(super) const POSTGRES: Server = server(
    5_432,
    r#"
mkdir -p /tmp/pg /run/postgresql; chown postgres /tmp/pg /run/postgresql; B=/usr/lib/postgresql/15/bin
su postgres -s /bin/sh -c "$B/initdb -A trust -D /tmp/pg >/dev/null"
echo 'host all all all trust' >>/tmp/pg/pg_hba.conf
exec su postgres -s /bin/sh -c "exec $B/postgres -D /tmp/pg -h 0.0.0.0 -c max_connections=200 -c fsync=off"
"#,
);

/// MariaDB.
pub(super) const MARIADB: Server = server(
    3_306,
    r#"
mkdir -p /tmp/my /run/mysqld; chown mysql /tmp/my /run/mysqld
mariadb-install-db --no-defaults --user=mysql --datadir=/tmp/my --auth-root-authentication-method=normal >/dev/null 2>&1
echo "CREATE USER lab@'%' IDENTIFIED BY 'right-1'; GRANT ALL ON *.* TO lab@'%'; CREATE DATABASE shop;" >/tmp/init.sql
exec mariadbd --no-defaults --user=mysql --datadir=/tmp/my --bind-address=0.0.0.0 --init-file=/tmp/init.sql --skip-name-resolve --max-connect-errors=100000
"#,
);

/// Memcached.
pub(super) const MEMCACHED: Server = server(11_211, "exec memcached -u root -l 0.0.0.0 -U 11211");

/// Mosquitto.
pub(super) const MQTT: Server = server(
    1_883,
    r#"printf 'listener 1883 0.0.0.0\nallow_anonymous true\n' >/tmp/m.conf; exec mosquitto -c /tmp/m.conf"#,
);

/// An SNMP agent.
pub(super) const SNMP: Server = server(
    161,
    r#"printf 'rocommunity public\nagentaddress udp:161\n' >/tmp/s.conf; exec snmpd -f -Lo -C -c /tmp/s.conf -p /tmp/s.pid"#,
);

/// An IRC server.
pub(super) const IRC: Server = server(
    6_667,
    r#"
printf '[Global]\nName = irc.example\nInfo = lab\nPorts = 6667\nListen = 0.0.0.0\nServerUID = root\nServerGID = root\n[Limits]\nMaxConnectionsIP = 0\nMaxJoins = 50\nPingTimeout = 10\n[Options]\nIdent = no\nPAM = no\nDNS = no\n' >/tmp/irc.conf
exec ngircd -n -f /tmp/irc.conf
"#,
);

/// rsync without accounts.
pub(super) const RSYNC: Server = server(
    873,
    r#"
mkdir /tmp/data; for n in $(seq 1 60); do head -c $((n * 4000)) /dev/urandom >/tmp/data/f$n; done
printf 'use chroot = no\n[data]\npath = /tmp/data\nread only = no\nuid = root\ngid = root\n' >/tmp/r.conf
exec rsync --daemon --no-detach --config=/tmp/r.conf
"#,
);

/// git's own protocol.
pub(super) const GIT: Server = server(
    9_418,
    r#"
mkdir -p /tmp/g/w; cd /tmp/g/w; git init -q .; git config user.email l@example; git config user.name l
for n in 1 2 3 4 5 6 7 8; do head -c 90000 /dev/urandom >f$n; git add .; git commit -qm "c$n"; done
cd /tmp/g; git clone -q --bare w r.git; git config --global --add safe.directory '*'
exec git daemon --export-all --base-path=/tmp/g --reuseaddr
"#,
);

/// TFTP.
pub(super) const TFTP: Server = server(
    69,
    "mkdir /tmp/t; head -c 60000 /dev/urandom >/tmp/t/image; exec in.tftpd -L -u root -s /tmp/t",
);

/// iperf3.
pub(super) const IPERF: Server = server(5_201, "exec iperf3 -s");

/// A VNC desktop without password.
pub(super) const VNC: Server = server(
    5_900,
    r#"
Xvfb :9 -screen 0 800x600x16 -nolisten tcp >/dev/null 2>&1 &
sleep 2
exec x11vnc -display :9 -forever -shared -nopw -rfbport 5900 -quiet
"#,
);

/// A BitTorrent tracker: it names who asked before, and forty peers that are gone.
pub(super) const TRACKER: Server = server(
    6_969,
    r#"
cat >/tmp/tracker.py <<'CONF'
import http.server, random, socket, struct, urllib.parse
seen = set()
class Tracker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        seen.add((self.client_address[0], int(asked.get("port", ["6881"])[0])))
        gone = [("198.19.%d.%d" % (random.randint(128, 190), random.randint(1, 250)), random.randint(6881, 51413)) for _ in range(40)]
        peers = b"".join(socket.inet_aton(a) + struct.pack(">H", p) for a, p in list(seen) + gone)
        body = b"d8:completei9e10:incompletei40e8:intervali15e12:min intervali5e5:peers%d:%se" % (len(peers), peers)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 6969), Tracker).serve_forever()
CONF
exec /usr/bin/python3 /tmp/tracker.py
"#,
);

/// An iodine server for `t.example`.
pub(super) const IODINE: Server = server(53, "exec iodined -f -c -P secret 10.99.0.1/24 t.example");

/// A dns2tcp server for `t.example` with a web page behind.
pub(super) const DNS2TCP: Server = server(
    53,
    r#"
mkdir -p /tmp/empty /tmp/www; head -c 60000 /dev/urandom | base64 >/tmp/www/f
(cd /tmp/www && exec busybox httpd -f -p 127.0.0.1:8000) &
printf 'listen = 0.0.0.0\nport = 53\nuser = root\nchroot = /tmp/empty\ndomain = t.example\nkey = secret\nresources = web:127.0.0.1:8000\n' >/tmp/d.conf
exec dns2tcpd -F -f /tmp/d.conf
"#,
);

/// Answers lines: a controller.
pub(super) const CONTROL: Server = server(
    4_444,
    r#"
printf '#!/bin/sh\nwhile read -r l; do case $l in PING*) echo "PONG $l";; *) sleep 0.1; echo ":task none";; esac; done\n' >/tmp/e; chmod +x /tmp/e
exec socat TCP-LISTEN:4444,reuseaddr,fork,max-children=100 EXEC:/tmp/e
"#,
);

/// A syslog server.
pub(super) const SYSLOG: Server = server(514, "exec socat -u UDP-RECV:514 OPEN:/dev/null");

/// A SIP phone that takes calls.
pub(super) const SIP: Server = server(
    5_060,
    "exec sipp -sn uas -i $(hostname -i | cut -d' ' -f1) -p 5060 -nostdin",
);

/// A web proxy.
pub(super) const SQUID: Server = server(
    3_128,
    r#"
mkdir -p /var/log/squid /var/spool/squid /run/squid; chmod 777 /var/log/squid /run/squid
printf 'http_port 3128\nhttp_access allow all\ncache deny all\npid_filename /tmp/squid.pid\naccess_log none\ncache_log /dev/null\nshutdown_lifetime 0 seconds\n' >/tmp/q.conf
exec squid -N -f /tmp/q.conf
"#,
);
