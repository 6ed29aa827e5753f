//! Watches over the other processes while this one computes, so that none goes on alone for hours.
//!
//! Each process has a connection to rank 0 on which nothing is sent but a farewell. The system closes it when a process ends, however it ends.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// What a process sends that ends in good order.
const FAREWELL: u8 = b'.';
/// How long connecting to rank 0 may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The connections of this process.
#[derive(Debug)]
pub struct Watch(Vec<TcpStream>);

/// Where rank 0 waits for the others.
#[derive(Debug)]
pub struct Door(TcpListener);

impl Door {
    /// On a port that the system chooses.
    ///
    /// # Errors
    /// The system has none.
    pub fn open() -> Result<Door> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0));
        Ok(Door(listener.context("cannot open a port for the ranks")?))
    }

    /// The port.
    ///
    /// # Errors
    /// The system does not say.
    pub fn port(&self) -> Result<u16> {
        Ok(self.0.local_addr()?.port())
    }
}

impl Watch {
    /// Rank 0: lets the others in and watches over them.
    ///
    /// # Errors
    /// A connection fails.
    pub fn over(door: &Door, n_others: usize) -> Result<Watch> {
        let others = (0..n_others).map(|_| {
            let (mut stream, _) = door.0.accept().context("a rank did not connect")?;
            let mut rank = [0; 4];
            stream
                .read_exact(&mut rank)
                .context("a rank did not say its number")?;
            listen(stream.try_clone()?, u32::from_be_bytes(rank));
            Ok(stream)
        });
        Ok(Watch(others.collect::<Result<_>>()?))
    }

    /// Another rank: watches over rank 0, which watches over all.
    ///
    /// # Errors
    /// Rank 0 is not reached.
    pub fn with_first(host: &str, port: u16, rank: u32) -> Result<Watch> {
        let stream = connected(host, port)
            .with_context(|| format!("cannot reach rank 0 at {host}, port {port}"))?;
        (&stream).write_all(&rank.to_be_bytes())?;
        listen(stream.try_clone()?, 0);
        Ok(Watch(vec![stream]))
    }

    /// This process is about to end in good order.
    pub fn farewell(&self) {
        for mut stream in &self.0 {
            // Another that has left already needs no farewell.
            let _ = stream.write_all(&[FAREWELL]);
        }
    }
}

fn connected(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Ends this process when the other end of the connection is closed without a farewell.
fn listen(mut stream: TcpStream, rank: u32) {
    thread::spawn(move || {
        let mut byte = [0];
        if !matches!(stream.read(&mut byte), Ok(1) if byte[0] == FAREWELL) {
            eprintln!(
                "error: rank {rank} has ended before the run was over, so this one stops: see what rank {rank} said. \
                 The last checkpoint is as it was; go on with `trainer resume`, with as many ranks as you like"
            );
            // Safety: the process ends at once. Nothing is lost, since files are written whole or not at all, and destructors of libtorch must
            // not run while other threads compute.
            unsafe { libc::_exit(1) }
        }
    });
}
