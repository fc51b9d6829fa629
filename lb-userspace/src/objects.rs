//! The compiled XDP programs, embedded by the build script; aligned, because aya reads them in place as ELF.

/// The balancer (`lb-ebpf/src/main.rs`).
pub static LB: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-lb"));

/// The backend-side decapsulator (`lb-ebpf/src/bin/decap.rs`).
pub static DECAP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-decap"));

/// The benchmark's feeder (`lb-ebpf/src/bin/feeder.rs`).
pub static FEEDER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-feeder"));

/// The veth benchmark's generator and sink (`lb-ebpf/src/bin/generator.rs`).
pub static GENERATOR: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-generator"));

#[cfg(test)]
mod tests {
    use aya_obj::{Object, ProgramSection};

    #[test]
    fn each_object_has_btf_a_licence_and_an_xdp_program() {
        let objects = [
            ("lb", super::LB),
            ("decap", super::DECAP),
            ("feeder", super::FEEDER),
            ("generator", super::GENERATOR),
        ];
        for (name, bytes) in objects {
            let object = Object::parse(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(object.btf.is_some(), "{name} has no BTF");
            assert!(!object.license.to_bytes().is_empty(), "{name} has no licence");
            let xdp = |section: &ProgramSection| matches!(section, ProgramSection::Xdp { .. });
            assert!(
                object.programs.values().any(|program| xdp(&program.section)),
                "{name} has no XDP program"
            );
        }
    }
}
