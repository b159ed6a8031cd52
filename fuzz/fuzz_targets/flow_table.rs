#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mmproxy_forwarder::fuzzing::flow_table(data));
