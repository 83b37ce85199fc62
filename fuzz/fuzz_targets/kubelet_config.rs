//! A kubelet's configuration, and the flags in manifests: what is read is what stands there.

#![no_main]

use kubepki::live::places::Places;
use kubepki::pki::kubelet_config::KubeletConfig;
use kubepki::plan::rotate::reach;
use kubepki::plan::sign_in::SignIn;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = KubeletConfig::parse(data);
    let Ok(manifest) = std::str::from_utf8(data) else { return };
    Places::of_texts(|_| Some(manifest));
    SignIn::for_server(Some(manifest));
    let api_server = reach::api_server(manifest);
    for value in [reach::data_folder(manifest), api_server.advertise_address, api_server.service_subnet] {
        assert!(value.is_none_or(|value| manifest.contains(value)));
    }
});
