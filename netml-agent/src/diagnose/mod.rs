//! Traceroute and latency probes, run on the sensor.
