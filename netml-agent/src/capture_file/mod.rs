//! Capture files (pcap, pcapng, gzip) as packet records.
