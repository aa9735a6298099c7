"""Flow statistics of a capture as NFStream counts them; needs nfstream, and only tests need it.

    python nfstream_reference.py CAPTURE...
        one JSON object per capture: its flows, each with NFStream's counts of whole frames (`frame`)
        and of payload (`payload`). No time-out ends a flow, nothing is dissected. Captures may be
        compressed by gzip.
"""

import gzip
import json
import shutil
import sys
import tempfile

from nfstream import NFStreamer

# Longer than any capture, in seconds.
NEVER = 10**9
FRAME, PAYLOAD = 0, 3
SIDES = ("src2dst", "dst2src")
FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")


def flows(path, accounting_mode):
    streamer = NFStreamer(
        source=path,
        decode_tunnels=False,
        idle_timeout=NEVER,
        active_timeout=NEVER,
        accounting_mode=accounting_mode,
        statistical_analysis=True,
        n_dissections=0,
        n_meters=1,
    )
    for flow in streamer:
        ends = (flow.src_ip, flow.src_port, flow.dst_ip, flow.dst_port, flow.protocol, flow.vlan_id)
        yield ends, flow


def sizes(flow):
    names = ("packets", "bytes", "min_ps", "mean_ps", "stddev_ps", "max_ps")
    return {side: {name: getattr(flow, f"{side}_{name}") for name in names} for side in SIDES}


def read(path):
    told = []
    payload = dict(flows(path, PAYLOAD))
    seen = 0
    for ends, flow in flows(path, FRAME):
        seen += 1
        src_ip, src_port, dst_ip, dst_port, protocol, vlan_id = ends
        told.append(
            {
                "src_ip": src_ip,
                "src_port": src_port,
                "dst_ip": dst_ip,
                "dst_port": dst_port,
                "protocol": protocol,
                "vlan_id": vlan_id,
                "first_ms": flow.bidirectional_first_seen_ms,
                "last_ms": flow.bidirectional_last_seen_ms,
                "gap_mean_ms": flow.bidirectional_mean_piat_ms,
                "gap_stddev_ms": flow.bidirectional_stddev_piat_ms,
                "gap_max_ms": flow.bidirectional_max_piat_ms,
                "flags": {
                    side: {flag: getattr(flow, f"{side}_{flag}_packets") for flag in FLAGS}
                    for side in SIDES
                },
                "frame": sizes(flow),
                "payload": sizes(payload[ends]),
            }
        )
    if seen != len(payload):
        sys.exit(f"{path}: {seen} flows by frames, {len(payload)} by payload")
    return told


def main(captures):
    for capture in captures:
        with tempfile.NamedTemporaryFile(suffix=".pcap") as plain:
            opened = gzip.open if capture.endswith(".gz") else open
            with opened(capture, "rb") as packed:
                shutil.copyfileobj(packed, plain)
            plain.flush()
            print(json.dumps(read(plain.name)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
