//! Packets as a capture file that Wireshark reads, each with its decision as a comment (pcapng, draft-ietf-opsawg-pcapng).

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError, PcapResult};

use super::decision;
use crate::api::types::{PacketVerdict, TracedPacket};

/// `epb_flags`: the packet came in, or left.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// `if_tsresol`: nanoseconds, in which the writer has all times.
const NANOSECONDS: u8 = 9;

/// A capture file in the making.
pub struct Capture<W: Write> {
    writer: PcapNgWriter<W>,
    /// In the order of their blocks.
    interfaces: Vec<String>,
    /// Bytes that are kept of each frame.
    bytes: u32,
    written: u64,
}

impl<W: Write> Capture<W> {
    /// Begins it.
    pub fn begin(writer: W, bytes: u32) -> PcapResult<Self> {
        let application = format!("sluice {}", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(Cow::Owned(application))],
            ..SectionHeaderBlock::default()
        };
        let writer = PcapNgWriter::with_section_header(writer, section)?;
        // The section's header is as good as nothing.
        Ok(Capture { writer, interfaces: Vec::new(), bytes, written: 0 })
    }

    /// Bytes of packets and interfaces up to now.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Where it is written to.
    pub fn writer(&mut self) -> &mut W {
        self.writer.get_mut()
    }

    /// Writes a packet as it came in and, if it was sent on or has changed, as it left. Frames in the file: 0 to 2.
    pub fn packet(&mut self, packet: &TracedPacket) -> PcapResult<u32> {
        let Some(frame_in) = packet.frame_in.as_deref() else { return Ok(0) };
        let frame_in = unhex(frame_in)?;
        let at = Duration::new(packet.at, packet.nanoseconds);
        let comment = decision(&packet.told);
        let ingress = self.interface(&packet.interface)?;
        self.frame(ingress, at, packet.told.length, &frame_in, INBOUND, &comment)?;
        let is_sent = matches!(packet.told.verdict, PacketVerdict::Transmit | PacketVerdict::Redirect);
        let Some(length_out) = packet.told.length_out.filter(|_| is_sent || packet.told.frame_out.is_some())
        else {
            return Ok(1);
        };
        let frame_out = match &packet.told.frame_out {
            Some(frame) => unhex(frame)?,
            None => frame_in,
        };
        let out = packet.told.out.as_deref().unwrap_or(&packet.interface);
        let egress = self.interface(out)?;
        self.frame(egress, at, length_out, &frame_out, OUTBOUND, &comment)?;
        Ok(2)
    }

    /// Number of an interface, which the file describes before its first packet.
    fn interface(&mut self, name: &str) -> PcapResult<u32> {
        if let Some(number) = self.interfaces.iter().position(|known| known == name) {
            return Ok(number as u32);
        }
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.bytes,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.written += self.writer.write_pcapng_block(block)? as u64;
        self.interfaces.push(name.to_owned());
        Ok(self.interfaces.len() as u32 - 1)
    }

    fn frame(
        &mut self,
        interface_id: u32,
        timestamp: Duration,
        length: usize,
        frame: &[u8],
        direction: u32,
        comment: &str,
    ) -> PcapResult<()> {
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp,
            original_len: length as u32,
            data: Cow::Borrowed(frame),
            options: vec![
                EnhancedPacketOption::Comment(Cow::Borrowed(comment)),
                EnhancedPacketOption::Flags(direction),
            ],
        };
        self.written += self.writer.write_pcapng_block(block)? as u64;
        Ok(())
    }
}

/// Bytes of hexadecimal digits.
fn unhex(digits: &str) -> PcapResult<Vec<u8>> {
    let byte = |at: usize| digits.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.ok_or(PcapError::InvalidField("the daemon's frame is no hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::api::types::Explanation;

    fn packet(verdict: PacketVerdict, frame_out: Option<&str>) -> TracedPacket {
        TracedPacket {
            at: 1_790_000_000,
            nanoseconds: 123_456_789,
            interface: "eth0".to_owned(),
            cpu: 1,
            told: Explanation {
                length: 60,
                verdict,
                reason: "forward_pin".to_owned(),
                host: Some("web-2".to_owned()),
                out: Some("eth1".to_owned()).filter(|_| verdict == PacketVerdict::Redirect),
                length_out: (verdict != PacketVerdict::Drop).then_some(80),
                frame_out: frame_out.map(str::to_owned),
                ..Explanation::default()
            },
            frame_in: Some("0102".to_owned()),
        }
    }

    /// Interface, length, bytes, flags and comment of each packet, and the interfaces.
    type Found = (Vec<(u32, u32, Vec<u8>, u32, String)>, Vec<String>);

    fn read(file: &[u8]) -> Found {
        let mut reader = PcapNgReader::new(file).unwrap();
        let (mut packets, mut interfaces) = (Vec::new(), Vec::new());
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(block) => {
                    assert_eq!((block.linktype, block.snaplen), (DataLink::ETHERNET, 256));
                    assert!(block.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
                    let name = block.options.iter().find_map(|option| match option {
                        InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                        _ => None,
                    });
                    interfaces.push(name.unwrap());
                }
                Block::EnhancedPacket(block) => {
                    assert_eq!(block.timestamp, Duration::new(1_790_000_000, 123_456_789));
                    let (mut flags, mut comment) = (0, String::new());
                    for option in &block.options {
                        match option {
                            EnhancedPacketOption::Flags(found) => flags = *found,
                            EnhancedPacketOption::Comment(found) => comment = found.to_string(),
                            other => panic!("{other:?}"),
                        }
                    }
                    let (interface, length) = (block.interface_id, block.original_len);
                    packets.push((interface, length, block.data.into_owned(), flags, comment));
                }
                other => panic!("{other:?}"),
            }
        }
        (packets, interfaces)
    }

    #[test]
    fn packets_come_in_and_leave() {
        let mut capture = Capture::begin(Vec::new(), 256).unwrap();
        assert_eq!(capture.packet(&packet(PacketVerdict::Redirect, Some("030405"))).unwrap(), 2);
        assert_eq!(capture.packet(&packet(PacketVerdict::Drop, None)).unwrap(), 1);
        assert_eq!(capture.packet(&packet(PacketVerdict::Pass, None)).unwrap(), 1);
        assert_eq!(
            capture.packet(&packet(PacketVerdict::Pass, Some("06"))).unwrap(),
            2,
            "by the kernel, changed"
        );
        assert_eq!(
            capture.packet(&TracedPacket { frame_in: None, ..packet(PacketVerdict::Pass, None) }).unwrap(),
            0
        );
        let (packets, interfaces) = read(capture.writer());
        assert_eq!(interfaces, ["eth0", "eth1"]);
        let sent = "forward_pin to web-2".to_owned();
        assert_eq!(packets[0], (0, 60, vec![1, 2], INBOUND, sent.clone()));
        assert_eq!(packets[1], (1, 80, vec![3, 4, 5], OUTBOUND, sent));
        assert_eq!(packets[2], (0, 60, vec![1, 2], INBOUND, "forward_pin".to_owned()));
        assert_eq!((packets[4].3, packets[5].3, &packets[5].2[..]), (INBOUND, OUTBOUND, &[6][..]));
        assert_eq!(packets.len(), 6);
        let length = capture.writer().len() as u64;
        assert!((1..length).contains(&capture.written()), "{} of {length}", capture.written());
    }

    #[test]
    fn a_frame_that_is_none_is_refused() {
        for digits in ["0", "0g", "012"] {
            assert!(unhex(digits).is_err(), "{digits}");
        }
        assert_eq!(unhex("00ff").unwrap(), [0, 255]);
    }
}
