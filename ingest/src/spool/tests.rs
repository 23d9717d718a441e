//! Spools in folders of their own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use schemas::Symbol;
use tempfile::TempDir;

use super::*;
use crate::testing::tick;

fn open(folder: &Path) -> Spool {
    try_open(folder, u64::MAX).unwrap()
}

fn try_open(folder: &Path, bound: u64) -> io::Result<Spool> {
    let place = SpoolPlace { folder: folder.to_owned(), bound };
    Spool::open(&place, &Source::new("sim").unwrap())
}

fn ticks(numbers: std::ops::Range<usize>) -> Vec<RawTick> {
    numbers.map(tick).collect()
}

/// So large that 17 of them fill a segment.
fn large(numbers: std::ops::Range<usize>) -> Vec<RawTick> {
    let large = |n| RawTick { body: vec![u8::try_from(n).unwrap(); 500 * 1024].into(), ..tick(n) };
    numbers.map(large).collect()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let numbers = segment::numbers(folder).unwrap();
    numbers.into_iter().map(|number| segment::path(folder, number)).collect()
}

#[test]
fn payloads_come_back_as_they_were_in_order_and_after_reopening() {
    let folder = TempDir::new().unwrap();
    let odd = RawTick {
        id: "odd \u{1F98E}\n\" id".into(),
        symbol: Some(Symbol::new("EUR/USD *>").unwrap()),
        columns: Some("a,b".into()),
        body: (0..=255).collect::<Vec<u8>>().into(),
        received_at: "2024-01-02T03:04:05.678901234Z".parse().unwrap(),
        ..tick(0)
    };
    let empty = RawTick { symbol: None, body: Bytes::new(), ..tick(7) };
    let all = [vec![odd], ticks(1..4), vec![empty]].concat();
    let mut spool = open(folder.path());
    spool.append(&all[..2]).unwrap();
    assert_eq!(spool.read(1).unwrap(), all[..1]);
    spool.append(&all[2..]).unwrap();
    assert_eq!(spool.read(100).unwrap(), all[1..]);
    assert!(!spool.has_unread() && !spool.is_empty());
    drop(spool);
    let mut spool = open(folder.path());
    assert_eq!(spool.newest_id(), Some(&*tick(7).id));
    spool.append(&ticks(8..9)).unwrap();
    assert_eq!(spool.read(100).unwrap(), [all, ticks(8..9)].concat());
}

#[test]
fn what_is_confirmed_is_deleted_and_the_rest_is_read_again() {
    let folder = TempDir::new().unwrap();
    let mut spool = open(folder.path());
    for n in 0..40 {
        spool.append(&large(n..n + 1)).unwrap();
    }
    assert_eq!(segments(folder.path()).len(), 3);
    assert_eq!(spool.read(30).unwrap(), large(0..30));
    spool.confirm(18);
    assert_eq!(segments(folder.path()).len(), 2);
    spool.rewind();
    assert_eq!(spool.read(100).unwrap(), large(18..40));
    spool.confirm(22);
    assert!(spool.is_empty() && segments(folder.path()).is_empty());
    assert_eq!(spool.newest_id(), None);
    spool.append(&ticks(40..41)).unwrap();
    assert_eq!(spool.read(100).unwrap(), ticks(40..41));
}

#[test]
fn a_torn_end_is_cut_away_wherever_it_is_torn() {
    let written = TempDir::new().unwrap();
    let mut spool = open(written.path());
    let mut ends = vec![0];
    for n in 0..3 {
        spool.append(&ticks(n..n + 1)).unwrap();
        ends.push(usize::try_from(spool.bytes()).unwrap());
    }
    let bytes = fs::read(&segments(written.path())[0]).unwrap();
    assert_eq!(ends.last(), Some(&bytes.len()));
    for torn in 0..=bytes.len() {
        let folder = TempDir::new().unwrap();
        fs::write(segment::path(folder.path(), 1), &bytes[..torn]).unwrap();
        let whole = ends.iter().filter(|end| **end <= torn).count() - 1;
        let mut spool = open(folder.path());
        assert_eq!(fs::read(&segments(folder.path())[0]).unwrap().len(), ends[whole]);
        spool.append(&ticks(7..8)).unwrap();
        assert_eq!(spool.read(9).unwrap(), [ticks(0..whole), ticks(7..8)].concat(), "at {torn}");
    }
}

#[test]
fn a_damaged_record_is_never_read_as_another() {
    let written = TempDir::new().unwrap();
    open(written.path()).append(&ticks(0..2)).unwrap();
    let bytes = fs::read(&segments(written.path())[0]).unwrap();
    for at in bytes.len() / 2..bytes.len() {
        let folder = TempDir::new().unwrap();
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        fs::write(segment::path(folder.path(), 1), &bytes).unwrap();
        assert_eq!(open(folder.path()).read(9).unwrap(), ticks(0..1), "at {at}");
    }
}

#[test]
fn it_says_when_it_is_full() {
    let folder = TempDir::new().unwrap();
    let mut spool = try_open(folder.path(), 10 * 1024 * 1024).unwrap();
    for n in 0..30 {
        assert_eq!(spool.is_full(), n > 20, "at {n}");
        spool.append(&large(n..n + 1)).unwrap();
    }
    spool.confirm(17);
    assert!(!spool.is_full(), "what the broker has counts no more");
}

#[test]
fn what_the_broker_may_have_is_shown_and_does_not_count_as_read() {
    let folder = TempDir::new().unwrap();
    let mut spool = open(folder.path());
    let shown = |spool: &mut Spool, behind| {
        let mut ids = Vec::new();
        spool.look_through(behind, |payload| ids.push(payload.id.clone())).unwrap();
        ids
    };
    assert!(shown(&mut spool, 9).is_empty());
    spool.append(&large(0..17)).unwrap();
    spool.append(&ticks(17..200)).unwrap();
    spool.read(150).unwrap();
    let all = shown(&mut spool, 64);
    assert!((17 + 64..200).contains(&all.len()), "the oldest segment, and some: {}", all.len());
    assert_eq!(all[80], tick(80).id);
    assert_eq!(spool.read(1).unwrap(), large(0..1), "nothing counts as read");
}

#[test]
fn each_process_has_a_folder_and_what_dead_ones_left_is_collected() {
    let folder = TempDir::new().unwrap();
    let place = SpoolPlace { folder: folder.path().to_owned(), bound: u64::MAX };
    assert!(!place.has_left());
    let mut living = open(folder.path());
    living.append(&ticks(0..2)).unwrap();
    for numbers in [2..4, 4..6] {
        let (mut second, mut third) = (open(folder.path()), open(folder.path()));
        second.append(&ticks(numbers.clone())).unwrap();
        assert!(!third.has_unread(), "nobody takes what a living one has");
        third.append(&ticks(numbers.start + 10..numbers.end + 10)).unwrap();
        drop((second, third));
    }
    assert!(place.has_left());
    let mut next = open(folder.path());
    let mut found: Vec<_> = next.read(99).unwrap().into_iter().map(|payload| payload.id).collect();
    found.sort();
    let mut wanted: Vec<_> = ticks(2..6).into_iter().chain(ticks(12..16)).map(|t| t.id).collect();
    wanted.sort();
    assert_eq!(found, wanted);
    assert_eq!(living.read(99).unwrap(), ticks(0..2));
    next.confirm(u64::MAX);
    living.confirm(u64::MAX);
    assert!(!place.has_left());
}
