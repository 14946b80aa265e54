#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::translation(understudy_call::call::Api::OpenaiChat, data));
