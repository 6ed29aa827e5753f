//! Watches over the other processes while this one computes, so that none goes on alone for hours.
//!
//! Each process has a connection to rank 0, on which both say every second that they live, and at last that they leave. The system closes it when a
//! process ends, however it ends; when a machine or its network is gone, nothing is heard any more.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a process sends that ends in good order.
const FAREWELL: u8 = b'.';
/// What a process sends that lives.
const SIGN_OF_LIFE: u8 = b'+';
/// How often it does.
const BETWEEN_SIGNS: Duration = Duration::from_secs(1);
/// After how long without one a process counts as gone.
const SILENCE: Duration = Duration::from_secs(30);
/// How long rank 0 waits until all others have come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long each address of rank 0 is tried.
const TO_CONNECT: Duration = Duration::from_secs(10);

/// The connections of this process.
#[derive(Debug)]
pub struct Watch {
    streams: Vec<TcpStream>,
    /// Whether this process has said farewell: from then on it does not matter how others part.
    is_leaving: Arc<AtomicBool>,
}

/// Where rank 0 waits for the others.
#[derive(Debug)]
pub struct Door(TcpListener);

impl Door {
    /// On a port that the system chooses.
    pub fn open() -> Result<Door> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0));
        Ok(Door(listener.context("cannot open a port for the ranks")?))
    }

    /// The port.
    pub fn port(&self) -> Result<u16> {
        Ok(self.0.local_addr()?.port())
    }

    /// The next to come, until then.
    fn next(&self, until: Instant) -> Result<TcpStream> {
        self.0.set_nonblocking(true)?;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() > until {
                        bail!("no other came within {} s", PATIENCE.as_secs());
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Watch {
    /// Rank 0: lets the others in and watches over them.
    pub fn over(door: &Door, n_others: usize) -> Result<Watch> {
        let until = Instant::now() + PATIENCE;
        let others = (0..n_others).map(|n_there| {
            let mut stream = door.next(until).with_context(|| {
                format!("{n_there} of {n_others} other ranks have connected to rank 0")
            })?;
            stream.set_read_timeout(Some(TO_CONNECT))?;
            let mut rank = [0; 4];
            stream
                .read_exact(&mut rank)
                .context("a rank did not say its number")?;
            Ok((stream, u32::from_be_bytes(rank)))
        });
        Watch::begin(others.collect::<Result<_>>()?)
    }

    /// Another rank: watches over rank 0, which watches over all.
    ///
    /// # Errors
    /// Rank 0 is not reached.
    pub fn with_first(host: &str, port: u16, rank: u32) -> Result<Watch> {
        let stream = connected(host, port)
            .with_context(|| format!("cannot reach rank 0 at {host}, port {port}"))?;
        (&stream).write_all(&rank.to_be_bytes())?;
        // Rank 0 gives its first sign when all have come.
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        (&stream)
            .read_exact(&mut [0])
            .context("rank 0 did not say that all ranks have come")?;
        Watch::begin(vec![(stream, 0)])
    }

    /// Begins to give signs of life to other ranks, and to listen for theirs.
    fn begin(others: Vec<(TcpStream, u32)>) -> Result<Watch> {
        let is_leaving = Arc::new(AtomicBool::new(false));
        let mut streams = Vec::new();
        for (stream, rank) in others {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE))?;
            listen(stream.try_clone()?, rank, Arc::clone(&is_leaving));
            streams.push(stream);
        }
        let own = streams.iter().map(TcpStream::try_clone);
        let own: Vec<TcpStream> = own.collect::<io::Result<_>>()?;
        let leaving = Arc::clone(&is_leaving);
        thread::spawn(move || {
            while !leaving.load(Ordering::SeqCst) {
                for mut stream in &own {
                    // What has become of the other end is told by what is heard from it.
                    let _ = stream.write_all(&[SIGN_OF_LIFE]);
                }
                thread::sleep(BETWEEN_SIGNS);
            }
        });
        Ok(Watch {
            streams,
            is_leaving,
        })
    }

    /// This process is about to end in good order.
    pub fn farewell(&self) {
        self.is_leaving.store(true, Ordering::SeqCst);
        for mut stream in &self.streams {
            // Another that has left already needs no farewell.
            let _ = stream.write_all(&[FAREWELL]);
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

fn connected(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TO_CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How it goes out with another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    /// It said that it leaves.
    Farewell,
    /// It has ended without a word.
    Ended,
    /// Nothing was heard from it for too long.
    Silent,
}

/// Hears another process out. Nothing that it says is left unread, since closing the connection would then be an error at its end.
fn parting(mut stream: TcpStream) -> Parting {
    let mut byte = [0];
    let mut said_farewell = false;
    let parting = loop {
        match stream.read(&mut byte) {
            Ok(1) if byte[0] == SIGN_OF_LIFE => {}
            Ok(1) if byte[0] == FAREWELL => said_farewell = true,
            Ok(_) => break Parting::Ended,
            // A process that was stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => break Parting::Silent,
                _ => break Parting::Ended,
            },
        }
    };
    match said_farewell {
        true => Parting::Farewell,
        false => parting,
    }
}

/// Ends this process when another has ended or is gone without a farewell.
fn listen(stream: TcpStream, rank: u32, is_leaving: Arc<AtomicBool>) {
    thread::spawn(move || {
        let what = match parting(stream) {
            _ if is_leaving.load(Ordering::SeqCst) => return,
            Parting::Farewell => return,
            Parting::Ended => format!(
                "rank {rank} has ended before the run was over, so this one stops: see what rank {rank} said"
            ),
            Parting::Silent => format!(
                "nothing was heard from rank {rank} for {} s, so this one stops: its machine or the network to it is gone, or it was suspended",
                SILENCE.as_secs()
            ),
        };
        // Where standard error is gone too, there is nobody to tell.
        let _ = writeln!(
            io::stderr(),
            "error: {what}. The last checkpoint is as it was; continue with `trainer resume`, with any number of ranks"
        );
        // Safety: the process ends at once. Nothing is lost, since files are written whole or not at all, and destructors of libtorch must
        // not run while other threads compute.
        unsafe { libc::_exit(1) }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a connection.
    fn connection() -> (TcpStream, TcpStream) {
        let door = Door::open().unwrap();
        let port = door.port().unwrap();
        let there = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        (door.next(Instant::now() + PATIENCE).unwrap(), there)
    }

    #[test]
    fn each_way_to_part_is_told_from_the_others() {
        for (said, wanted) in [
            (&b"++."[..], Parting::Farewell),
            (b"++", Parting::Ended),
            (b"", Parting::Ended),
            (b"+?", Parting::Ended),
        ] {
            let (here, mut there) = connection();
            there.write_all(said).unwrap();
            drop(there);
            assert_eq!(parting(here), wanted, "{said:?}");
        }
        let (here, mut there) = connection();
        there.write_all(b"+").unwrap();
        here.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        assert_eq!(parting(here), Parting::Silent);
        drop(there);
    }

    #[test]
    fn who_does_not_come_is_not_waited_for_forever() {
        let door = Door::open().unwrap();
        let error = door.next(Instant::now()).unwrap_err();
        assert!(error.to_string().contains("no other came"), "{error}");
    }

    #[test]
    fn signs_of_life_come_until_the_farewell() {
        let (here, there) = connection();
        let watch = Watch::begin(vec![(there, 1)]).unwrap();
        here.set_read_timeout(Some(BETWEEN_SIGNS * 10)).unwrap();
        let mut first = [0];
        (&here).read_exact(&mut first).unwrap();
        assert_eq!(first, [SIGN_OF_LIFE]);
        watch.farewell();
        assert_eq!(parting(here), Parting::Farewell);
    }
}
