//! Copies octets between two connections in both directions.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;

/// Size of the buffer for each direction, in octets.
const BUFFER_SIZE: usize = 16 * 1024;

/// Copies octets until both sides have ended. Returns an error if a side fails, if no octets pass in either direction
/// for the time `idle`, or if a side accepts no octets for this time.
pub(super) async fn relay(
    a: impl AsyncRead + AsyncWrite + Unpin,
    b: impl AsyncRead + AsyncWrite + Unpin,
    idle: Duration,
) -> io::Result<()> {
    let moved = AtomicU64::new(0);
    let ((from_a, to_a), (from_b, to_b)) = (split(a), split(b));
    tokio::try_join!(pour(from_a, to_b, &moved, idle), pour(from_b, to_a, &moved, idle)).map(drop)
}

async fn pour(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
    idle: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        let count = match timeout(idle, from.read(&mut buffer)).await {
            Ok(count) => count?,
            // The other direction may have been active during this time.
            Err(late) => match moved.load(Ordering::Relaxed) {
                now if now == before => return Err(late.into()),
                now => {
                    before = now;
                    continue;
                }
            },
        };
        if count == 0 {
            return timeout(idle, to.shutdown()).await?;
        }
        moved.fetch_add(1, Ordering::Relaxed);
        let write = async {
            to.write_all(buffer.get(..count).unwrap_or_default()).await?;
            to.flush().await
        };
        timeout(idle, write).await??;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn octets_are_relayed_in_both_directions_until_both_sides_end() {
        let ((a, mut app), (b, mut server)) = (duplex(64), duplex(64));
        let relayed = tokio::spawn(relay(a, b, IDLE));
        let said = vec![7; 100_000];
        let (mut heard, mut answer) = (Vec::new(), Vec::new());
        let talk = async {
            app.write_all(&said).await.unwrap();
            app.shutdown().await.unwrap();
            app.read_to_end(&mut answer).await.unwrap();
        };
        let listen = async {
            server.read_to_end(&mut heard).await.unwrap();
            server.write_all(b"answer").await.unwrap();
            drop(server);
        };
        tokio::join!(talk, listen);
        assert_eq!((heard, answer.as_slice()), (said, b"answer".as_slice()));
        relayed.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn traffic_in_one_direction_keeps_the_relay_open_and_silence_ends_it() {
        let ((a, mut app), (b, mut server)) = (duplex(64), duplex(64));
        let relayed = tokio::spawn(relay(a, b, IDLE));
        for _ in 0..10 {
            tokio::time::sleep(IDLE / 2).await;
            server.write_all(b"x").await.unwrap();
            assert_eq!(app.read_u8().await.unwrap(), b'x');
        }
        assert!(!relayed.is_finished());
        let error = relayed.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_reads_nothing_ends_the_relay() {
        let ((a, mut app), (b, _server)) = (duplex(64), duplex(64));
        let relayed = tokio::spawn(relay(a, b, IDLE));
        app.write_all(&[0; 64]).await.unwrap();
        let error = relayed.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
