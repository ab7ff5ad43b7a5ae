//! A boot ROM in an emulator, on a socket: transfers are requests of a letter, a length and bytes, as `tests/pico/rom.py` answers.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// A transfer to the endpoint for commands.
const OUT: u8 = b'O';
/// The next packets of the endpoint for answers.
const IN: u8 = b'I';
/// Whatever is under way ends.
const RESET: u8 = b'R';
/// How the last command ended.
const STATUS: u8 = b'S';
/// An answer is at most what is asked for at a time, a sector, and a packet.
const MAX_ANSWER_BYTES: u32 = 8 * 1024;

/// The socket of one chip.
#[derive(Debug)]
pub(crate) struct SimulatedRom(UnixStream);

impl SimulatedRom {
    pub(super) async fn open(socket: &Path) -> io::Result<Self> {
        UnixStream::connect(socket).await.map(Self)
    }

    pub(super) async fn reset(&mut self) -> io::Result<()> {
        self.ask(RESET, &[]).await.map(drop)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ask(OUT, bytes).await.map(drop)
    }

    pub(super) async fn receive(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            bytes.extend(self.ask(IN, &[]).await?);
            if bytes.len() >= length {
                return Ok(bytes);
            }
        }
    }

    pub(super) async fn status(&mut self) -> io::Result<Vec<u8>> {
        self.ask(STATUS, &[]).await
    }

    async fn ask(&mut self, what: u8, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut request = vec![what];
        request.extend((bytes.len() as u32).to_le_bytes());
        request.extend(bytes);
        self.0.write_all(&request).await?;
        let length = self.0.read_u32_le().await?;
        if length > MAX_ANSWER_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; length as usize];
        self.0.read_exact(&mut answer).await?;
        Ok(answer)
    }
}
