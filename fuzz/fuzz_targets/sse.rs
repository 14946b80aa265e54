#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::framing(understudy_call::wire::Framing::Sse, data));
