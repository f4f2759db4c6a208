//! A machine in memory whose power fails and whose disk errs or fills up.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::Rng;
use rand::rngs::StdRng;
use redb::StorageBackend;

use crate::medium::Medium;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
pub(super) struct Machine(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What is on the disk.
    platter: Vec<u8>,
    /// What reads see.
    cache: Vec<u8>,
    /// What the cache has and the disk hasn't, in order.
    pending: Vec<Op>,
    /// How many more operations there is power for.
    power: Option<u64>,
    /// After how many more operations one fails.
    fault: Option<u64>,
    /// Up to where something was written.
    used: u64,
    /// Up to where there is room.
    room: u64,
    /// There was none up to here.
    wanted: Option<u64>,
    /// Which opening may write.
    turn: u64,
    rng: StdRng,
}

#[derive(Debug, Clone)]
enum Op {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// What becomes of an operation.
enum Fate {
    Done,
    Fails,
}

impl Machine {
    pub(super) fn new(rng: StdRng) -> Machine {
        Machine(Arc::new(Mutex::new(State {
            platter: Vec::new(),
            cache: Vec::new(),
            pending: Vec::new(),
            power: None,
            fault: None,
            used: 0,
            room: u64::MAX,
            wanted: None,
            turn: 0,
            rng,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The power fails after so many operations.
    pub(super) fn power_for(&self, operations: u64) {
        self.state().power = Some(operations);
    }

    /// One operation fails, after so many others.
    pub(super) fn fault_after(&self, operations: u64) {
        self.state().fault = Some(operations);
    }

    /// Whether the power is off.
    pub(super) fn is_off(&self) -> bool {
        self.state().power == Some(0)
    }

    /// Power again. Of what wasn't synced any part is on the disk: whole writes, some of their sectors, nothing.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        state.lose_some();
        (state.power, state.fault) = (None, None);
        state.cache = state.platter.clone();
    }

    /// There is room for what was written until now, and so many bytes.
    pub(super) fn room_for(&self, more: u64) {
        let mut state = self.state();
        state.room = state.used + more;
    }
}

impl State {
    /// What becomes of the next operation, by power and fault.
    fn fate(&mut self, turn: u64) -> Fate {
        if turn != self.turn || self.power == Some(0) {
            return Fate::Fails;
        }
        if let Some(left) = &mut self.power {
            *left -= 1;
            if *left == 0 {
                return Fate::Fails;
            }
        }
        match &mut self.fault {
            Some(0) => {
                self.fault = None;
                Fate::Fails
            }
            Some(left) => {
                *left -= 1;
                Fate::Done
            }
            None => Fate::Done,
        }
    }

    fn lose_some(&mut self) {
        for op in std::mem::take(&mut self.pending) {
            match self.rng.random_range(0..4) {
                0 => {}
                1 => self.tear(&op),
                _ => op.apply(&mut self.platter),
            }
        }
    }

    /// Some of a write's sectors reach the disk.
    fn tear(&mut self, op: &Op) {
        let Op::Write(offset, data) = op else { return };
        let mut from = 0;
        while from < data.len() {
            let to = ((offset + from) / SECTOR + 1) * SECTOR - offset;
            let to = to.min(data.len());
            if self.rng.random() {
                Op::Write(offset + from, data[from..to].to_vec()).apply(&mut self.platter);
            }
            from = to;
        }
    }

    fn change(&mut self, turn: u64, op: Op) -> io::Result<()> {
        match self.fate(turn) {
            Fate::Done => {
                op.apply(&mut self.cache);
                self.pending.push(op);
                Ok(())
            }
            Fate::Fails => {
                // It may have got somewhere.
                if turn == self.turn {
                    self.pending.push(op);
                }
                Err(io::Error::other("the disk failed"))
            }
        }
    }
}

impl Op {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Op::Length(length) => file.resize(*length, 0),
            Op::Write(offset, data) => {
                // What lies beyond a length that was lost is lost with it.
                let end = (offset + data.len()).min(file.len());
                if let Some(place) = file.get_mut(*offset..end) {
                    place.copy_from_slice(&data[..end - offset]);
                }
            }
        }
    }
}

impl Medium for Machine {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.state();
        if state.power == Some(0) {
            return Err(io::Error::other("the power is off"));
        }
        state.turn += 1;
        // As after a crash: what a failed sync left in the cache is nowhere else.
        state.lose_some();
        state.cache = state.platter.clone();
        Ok(Box::new(Opened {
            machine: self.clone(),
            turn: state.turn,
        }))
    }

    fn has_space(&self) -> bool {
        let mut state = self.state();
        let room = state.room;
        state.wanted.take_if(|wanted| *wanted <= room);
        state.wanted.is_none()
    }
}

#[derive(Debug)]
struct Opened {
    machine: Machine,
    turn: u64,
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        Ok(self.machine.state().cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.machine.state();
        let offset = offset as usize;
        let data = state.cache.get(offset..offset + out.len());
        out.copy_from_slice(data.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let op = Op::Length(len as usize);
        self.machine.state().change(self.turn, op)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.machine.state();
        let state = &mut *state;
        match state.fate(self.turn) {
            Fate::Done => {
                for op in std::mem::take(&mut state.pending) {
                    op.apply(&mut state.platter);
                }
                Ok(())
            }
            // As Linux does: what couldn't be written is taken for written from now on.
            Fate::Fails => {
                if self.turn == state.turn {
                    state.lose_some();
                }
                Err(io::Error::other("the disk failed"))
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (op, end) = (
            Op::Write(offset as usize, data.to_vec()),
            offset + data.len() as u64,
        );
        let mut state = self.machine.state();
        if end > state.room {
            state.wanted = Some(end);
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.used = state.used.max(end);
        state.change(self.turn, op)
    }
}
