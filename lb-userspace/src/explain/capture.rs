//! The packets of a capture file, pcap or pcapng.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

use crate::dataplane::{LEAST_BYTES, MOST_BYTES};

/// First bytes of a file of the second kind: the type of its section header.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// A packet of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Captured {
    Frame(Vec<u8>),
    /// It cannot be asked about, and why.
    Unfit(String),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("neither pcap nor pcapng, or damaged: {0}")]
    Damaged(#[from] PcapError),
}

/// The packets of a file, one after the other; what comes after an error is not read.
pub struct Packets<R: Read> {
    format: Format<R>,
    is_over: bool,
}

enum Format<R: Read> {
    Pcap(PcapReader<R>),
    /// With the links of its interfaces, of which each section has its own.
    PcapNg(PcapNgReader<R>, Vec<DataLink>),
}

/// Of the file at a path.
pub fn open(path: &Path) -> Result<Packets<impl Read>, CaptureError> {
    Packets::of(File::open(path)?)
}

impl<R: Read> Packets<io::Chain<io::Cursor<[u8; 4]>, R>> {
    fn of(mut file: R) -> Result<Self, CaptureError> {
        let mut magic = [0; 4];
        file.read_exact(&mut magic)?;
        let file = io::Cursor::new(magic).chain(file);
        let format = match magic {
            PCAPNG => Format::PcapNg(PcapNgReader::new(file)?, Vec::new()),
            _ => Format::Pcap(PcapReader::new(file)?),
        };
        Ok(Packets { format, is_over: false })
    }
}

impl<R: Read> Packets<R> {
    fn next_captured(&mut self) -> Option<Result<Captured, PcapError>> {
        match &mut self.format {
            Format::Pcap(reader) => {
                let link = reader.header().datalink;
                // As it is: the reader's own look takes a packet for damaged that was longer than what the capture keeps of each.
                let packet = reader.next_raw_packet()?;
                Some(packet.map(|packet| fit(link, &packet.data, packet.orig_len)))
            }
            Format::PcapNg(reader, links) => loop {
                let (interface, data, length) = match reader.next_block()? {
                    Err(error) => return Some(Err(error)),
                    Ok(Block::SectionHeader(_)) => {
                        links.clear();
                        continue;
                    }
                    Ok(Block::InterfaceDescription(interface)) => {
                        links.push(interface.linktype);
                        continue;
                    }
                    Ok(Block::EnhancedPacket(packet)) => {
                        (packet.interface_id as usize, packet.data, packet.original_len)
                    }
                    Ok(Block::SimplePacket(packet)) => (0, packet.data, packet.original_len),
                    Ok(_) => continue,
                };
                return Some(Ok(match links.get(interface) {
                    Some(&link) => fit(link, &data, length),
                    None => Captured::Unfit("of an interface that the file does not describe".to_owned()),
                }));
            },
        }
    }
}

impl<R: Read> Iterator for Packets<R> {
    type Item = Result<Captured, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_captured();
        self.is_over = !matches!(next, Some(Ok(_)));
        next.map(|next| Ok(next?))
    }
}

/// The packet as a frame of an Ethernet. What the capture has cut off is filled up with zeros, as nobody looks behind the headers.
fn fit(link: DataLink, data: &[u8], length: u32) -> Captured {
    let cut = (length as usize).saturating_sub(data.len());
    let (ethertype, offset) = match link {
        DataLink::ETHERNET => (None, 0),
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => match data.first().map(|byte| byte >> 4) {
            Some(6) => (Some([0x86, 0xdd]), 0),
            _ => (Some([0x08, 0x00]), 0),
        },
        // Of `tcpdump -i any`, in two versions.
        DataLink::LINUX_SLL => (data.get(14..16).and_then(|bytes| bytes.try_into().ok()), 16),
        DataLink::LINUX_SLL2 => (data.get(..2).and_then(|bytes| bytes.try_into().ok()), 20),
        other => return Captured::Unfit(format!("of a link of kind {other:?}")),
    };
    let Some(data) = data.get(offset..) else { return Captured::Unfit("too short".to_owned()) };
    let header = ethertype.map(|[high, low]| [2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x0a, high, low]);
    let mut frame = header.map(Vec::from).unwrap_or_default();
    let whole = frame.len() + data.len() + cut;
    if whole > MOST_BYTES {
        return Captured::Unfit(format!(
            "{whole} bytes, more than the {MOST_BYTES} of one frame here: put together after it came in (GRO)?"
        ));
    }
    if whole < LEAST_BYTES {
        return Captured::Unfit(format!("{whole} bytes, less than a frame has"));
    }
    frame.extend_from_slice(data);
    frame.resize(whole, 0);
    Captured::Frame(frame)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;

    use super::*;

    fn all(file: &[u8]) -> Result<Vec<Captured>, CaptureError> {
        Packets::of(file)?.collect()
    }

    fn pcap(link: DataLink, packets: &[(&[u8], u32)]) -> Vec<u8> {
        let header = PcapHeader { datalink: link, snaplen: 60, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for (data, length) in packets {
            writer.write_packet(&PcapPacket::new(Duration::ZERO, *length, data)).unwrap();
        }
        writer.into_writer()
    }

    #[test]
    fn frames_come_out_as_they_were_and_whole() {
        let frame = [7; 60];
        let file =
            pcap(DataLink::ETHERNET, &[(&frame, 60), (&frame[..20], 90), (&[1; 4], 4), (&frame, 9000)]);
        let captured = all(&file).unwrap();
        assert_eq!(captured[0], Captured::Frame(frame.to_vec()));
        let Captured::Frame(filled) = &captured[1] else { panic!("{captured:?}") };
        assert_eq!((filled.len(), &filled[..20], &filled[20..]), (90, &frame[..20], &[0; 70][..]));
        assert!(matches!(&captured[2], Captured::Unfit(why) if why.contains("less than a frame")));
        assert!(matches!(&captured[3], Captured::Unfit(why) if why.contains("GRO")));
    }

    #[test]
    fn packets_without_ethernet_get_one() {
        let v6 = [0x60; 40];
        let ethertype = |file: &[u8]| match &all(file).unwrap()[..] {
            [Captured::Frame(frame)] => ([frame[12], frame[13]], frame[14..].to_vec()),
            other => panic!("{other:?}"),
        };
        assert_eq!(ethertype(&pcap(DataLink::RAW, &[(&v6, 40)])), ([0x86, 0xdd], v6.to_vec()));
        let mut cooked = vec![0; 16];
        cooked[14] = 8;
        cooked.extend([0x45; 20]);
        assert_eq!(ethertype(&pcap(DataLink::LINUX_SLL, &[(&cooked, 36)])), ([8, 0], vec![0x45; 20]));
        let mut cooked = vec![0; 20];
        cooked[0] = 8;
        cooked.extend([0x45; 20]);
        assert_eq!(ethertype(&pcap(DataLink::LINUX_SLL2, &[(&cooked, 40)])), ([8, 0], vec![0x45; 20]));
        let file = pcap(DataLink::USB_LINUX, &[(&v6, 40)]);
        assert!(matches!(&all(&file).unwrap()[..], [Captured::Unfit(_)]));
    }

    #[test]
    fn the_other_format_is_read_as_well() {
        let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
        for linktype in [DataLink::ETHERNET, DataLink::RAW] {
            let interface = InterfaceDescriptionBlock { linktype, snaplen: 0, options: Vec::new() };
            writer.write_pcapng_block(interface).unwrap();
        }
        for (interface_id, data) in [(1, vec![0x45; 30]), (0, vec![7; 60])] {
            let packet = EnhancedPacketBlock {
                interface_id,
                timestamp: Duration::ZERO,
                original_len: data.len() as u32,
                data: data.into(),
                options: Vec::new(),
            };
            writer.write_pcapng_block(packet).unwrap();
        }
        let captured = all(&writer.into_inner()).unwrap();
        assert!(
            matches!(&captured[0], Captured::Frame(frame) if frame[12..] == [&[8, 0][..], &[0x45; 30]].concat())
        );
        assert_eq!(captured[1], Captured::Frame(vec![7; 60]));
    }

    #[test]
    fn other_files_are_refused_and_nothing_panics() {
        assert!(matches!(all(b"").unwrap_err(), CaptureError::Io(_)));
        assert!(matches!(all(b"something else altogether").unwrap_err(), CaptureError::Damaged(_)));
        let file = pcap(DataLink::ETHERNET, &[(&[7; 60], 60)]);
        for length in 0..file.len() {
            // Cut anywhere: an error, or what came before.
            let _ = all(&file[..length]);
        }
    }
}
