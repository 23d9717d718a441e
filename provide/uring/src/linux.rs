//! The ring itself.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use io_uring::{IoUring, opcode::Send, squeue, types::Fd};

use crate::BATCH;

/// A submission and a completion queue of the kernel.
pub struct Ring {
    ring: IoUring,
}

impl Ring {
    /// A ring; an error where the kernel has none or does not give it to us.
    pub fn new() -> io::Result<Self> {
        let entries = BATCH as u32;
        // The kernel then completes what it can when we enter it, and interrupts nobody; Linux 5.19.
        let ring = match IoUring::builder().setup_coop_taskrun().build(entries) {
            Err(fault) if fault.kind() == io::ErrorKind::InvalidInput => IoUring::new(entries)?,
            ring => ring?,
        };
        Ok(Self { ring })
    }

    /// Sends each buffer on its socket, as far as the socket takes it without waiting, as `send(2)`
    /// with `MSG_DONTWAIT` would. `results` has, in the same order, how many bytes were taken;
    /// [`io::ErrorKind::WouldBlock`] where none could be.
    ///
    /// An error is one of the ring itself, which should be dropped: what has no result, or 0, was
    /// not sent.
    pub fn send_all(
        &mut self,
        sends: &[(BorrowedFd<'_>, &[u8])],
        results: &mut Vec<io::Result<usize>>,
    ) -> io::Result<()> {
        results.clear();
        for batch in sends.chunks(BATCH) {
            let first = results.len();
            results.extend(batch.iter().map(|_| Ok(0)));
            self.send_batch(batch, results.get_mut(first..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn send_batch(
        &mut self,
        sends: &[(BorrowedFd<'_>, &[u8])],
        results: &mut [io::Result<usize>],
    ) -> io::Result<()> {
        let mut pushed = 0;
        let mut refused = None;
        for (index, (socket, bytes)) in sends.iter().enumerate() {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let send = Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(index as u64);
            if let Err(fault) = self.push(&send) {
                refused = Some(fault);
                break;
            }
            pushed += 1;
        }
        let mut completed = 0;
        while completed < pushed {
            // Whatever happens, this must not return while the kernel still has one of the buffers.
            match self.ring.submit_and_wait(pushed - completed) {
                Ok(_) => {}
                Err(fault) if is_passing(&fault) => {}
                Err(fault) => {
                    // The kernel refuses the ring itself, so it will not complete anything more.
                    // What it had begun cannot be recalled, and the buffers are not ours to free.
                    tell_and_abort(&fault);
                }
            }
            for completion in self.ring.completion() {
                completed += 1;
                let index = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
                if let Some(result) = results.get_mut(index) {
                    *result = outcome(completion.result());
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn push(&mut self, send: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the entry points to a buffer and names a socket that `send_batch` has borrowed,
        // and that function does not return before the kernel has completed every entry pushed.
        let pushed = unsafe { self.ring.submission().push(send) };
        pushed.map_err(|_| io::Error::other("the submission queue is full"))
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

fn is_passing(fault: &io::Error) -> bool {
    // EBUSY and EAGAIN: the kernel is short of something for the moment.
    matches!(fault.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

fn tell_and_abort(fault: &io::Error) -> ! {
    eprintln!("io_uring broke while it had our buffers: {fault}");
    std::process::abort()
}

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn everybody_gets_his_bytes_and_more_than_a_batch_fits() {
        let mut ring = Ring::new().unwrap();
        let mut pairs: Vec<_> = (0..BATCH + 10).map(|_| pair()).collect();
        let texts: Vec<_> = (0..pairs.len()).map(|at| format!("hello {at:04}")).collect();
        let sends: Vec<_> =
            pairs.iter().zip(&texts).map(|((a, _), text)| (a.as_fd(), text.as_bytes())).collect();
        let mut results = Vec::new();
        ring.send_all(&sends, &mut results).unwrap();
        assert!(results.iter().all(|result| matches!(result, Ok(10))), "{results:?}");
        for ((_, client), text) in pairs.iter_mut().zip(&texts) {
            let mut read = [0; 10];
            client.read_exact(&mut read).unwrap();
            assert_eq!(read, text.as_bytes());
        }
    }

    #[test]
    fn a_full_socket_does_not_wait_and_a_closed_one_is_an_error() {
        let mut ring = Ring::new().unwrap();
        let ((full, _kept), (closed, client), (open, _reader)) = (pair(), pair(), pair());
        drop(client);
        let many = vec![7; 64 * 1024];
        let mut results = Vec::new();
        let mut taken = 0;
        loop {
            ring.send_all(&[(full.as_fd(), &many)], &mut results).unwrap();
            match &results[0] {
                Ok(written) => taken += written,
                Err(fault) => break assert_eq!(fault.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(taken > many.len());
        // The first is answered with a reset, sooner or later.
        let sends: [(_, &[u8]); 2] = [(closed.as_fd(), b"x"), (open.as_fd(), b"x")];
        for _ in 0..100_000 {
            ring.send_all(&sends, &mut results).unwrap();
            if results[0].is_err() {
                break;
            }
            std::thread::yield_now();
        }
        assert!(results[0].is_err() && matches!(results[1], Ok(1)), "{results:?}");
    }
}
