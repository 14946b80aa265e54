#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::parser(understudy_call::call::Api::CohereChat, data));
