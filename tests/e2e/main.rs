//! The whole program against real servers.

mod archive;
mod deploy;
mod doctor;
mod door;
mod eventually;
mod faults;
mod live;
mod lizards;
mod pipeline;
mod servers;
mod stores;
mod subscriber;
mod symbols;
mod trades;
mod up;
