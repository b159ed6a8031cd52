#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mmproxy_forwarder::fuzzing::udp_gateway(data));
