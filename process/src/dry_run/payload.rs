//! A payload that was read, and where its events are judged.

use std::collections::BTreeMap;

use schemas::RawTick;

use crate::{
    decode::{Decoded, Decoder, Event},
    engine::partition,
};

/// A payload that was read.
pub(super) struct Payload {
    pub(super) raw: RawTick,
    pub(super) events: Vec<Event>,
    /// Nobody said what it is.
    pub(super) detected: bool,
}

/// The numbers of some events of a payload, by the partitions in which they are judged.
pub(super) type Homes = BTreeMap<u16, Vec<usize>>;

impl Payload {
    /// Reads what says by itself how.
    pub(super) fn read(raw: RawTick, decoder: &Decoder) -> Self {
        let mut events = Vec::new();
        decoder.decode(&raw, &mut events);
        Self { raw, events, detected: false }
    }

    /// What could be read, with the numbers of its events: these the rules judge.
    pub(super) fn readable(&self) -> impl Iterator<Item = (usize, &Decoded)> {
        let events = self.events.iter().enumerate();
        events.filter_map(|(number, event)| Some((number, event.as_ref().ok()?)))
    }

    /// The events that could not be read: nobody's memory matters to them.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = usize> {
        let events = self.events.iter().enumerate();
        events.filter(|(_, event)| event.is_err()).map(|(number, _)| number)
    }

    /// Those of these events that could be read.
    pub(super) fn of<'a>(
        &'a self,
        events: impl IntoIterator<Item = &'a usize>,
    ) -> impl Iterator<Item = (usize, &'a Decoded)> {
        let event = |number: &usize| Some((*number, self.events.get(*number)?.as_ref().ok()?));
        events.into_iter().filter_map(event)
    }

    /// Where these events are judged, if there are so many partitions.
    pub(super) fn homes(&self, events: &[usize], count: u16) -> Homes {
        let mut homes = Homes::new();
        for (number, event) in self.of(events) {
            let home = partition::of_tick(self.raw.symbol.as_ref(), &event.symbol, count);
            homes.entry(home).or_default().push(number);
        }
        homes
    }
}
